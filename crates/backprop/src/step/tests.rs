use crate::prelude::*;
use backprop_core::exec::Signature;

fn step() -> Step {
    let model = Sequential::new().push(Linear::new(6)).push(BatchNorm::new()).push(Dropout::new(0.2)).push(Linear::new(3));
    Step::new(model, CrossEntropy::new(), AdamW::new(0.1)).metric(Accuracy::default()).clip_norm(1.0)
}

fn batch(n: usize) -> BatchSpec {
    BatchSpec { x: Type::new(DType::F32, [n, 4]), y: Type::new(DType::I32, [n]) }
}

fn names(list: &[(String, Type)]) -> Vec<&str> {
    list.iter().map(|(name, _)| name.as_str()).collect()
}

#[test]
fn graphs_have_the_documented_inputs_and_outputs() {
    let traced = step().trace(&batch(8)).unwrap();
    let train = Signature::of(&traced.train);
    assert_eq!(names(&train.inputs), ["hyper", "seed", "step", "x", "y"]);
    let measured = ["loss_sum", "loss_weight", "metric/accuracy/0", "metric/accuracy/1"];
    assert_eq!(names(&train.outputs), [&measured[..], &["grad_norm", "finite"]].concat());
    assert!(train.outputs.iter().all(|(_, ty)| *ty == Type::scalar(DType::F32)));
    // Six parameters with two slots each, two statistics: all change.
    assert_eq!((train.state.len(), train.updates.len(), traced.state.len()), (20, 20, 20));
    let evaluate = Signature::of(&traced.evaluate);
    assert_eq!((names(&evaluate.inputs), names(&evaluate.outputs)), (vec!["x", "y"], measured.to_vec()));
    assert_eq!((evaluate.state.len(), evaluate.updates.len()), (8, 0));
    let predict = Signature::of(&traced.predict);
    assert_eq!((names(&predict.inputs), names(&predict.outputs)), (vec!["x"], vec!["output"]));
}

#[test]
fn another_batch_size_has_the_same_state() {
    let (whole, rest) = (step().trace(&batch(8)).unwrap(), step().trace(&batch(3)).unwrap());
    assert_eq!(whole.state, rest.state);
    assert_eq!(whole.initial_state(5).unwrap(), rest.initial_state(5).unwrap());
    assert_ne!(whole.initial_state(5).unwrap(), rest.initial_state(6).unwrap());
}

#[test]
fn the_runtime_vector_is_a_function_of_the_step() {
    let step = step().schedule(Schedule::Cosine(Cosine::default()));
    let groups = step.groups();
    let at = |s| groups.hyper(s, 10).as_slice::<f32>().unwrap().to_vec();
    assert_eq!(at(3), at(3));
    assert_ne!(at(3), at(4));
    let position = |name: &str| groups.names().iter().position(|(_, entry)| *entry == name).unwrap();
    assert_eq!(at(0)[position("clip_norm")], 1.0);
    // Half-way along the cosine the rate is half; the weight shrinks by rate · 0.01.
    assert_eq!(at(5)[position("shrink")], (1.0 - 0.05 * 0.01) as f32);
    assert_eq!(at(0).len(), groups.len());
}

#[test]
fn bad_numbers_are_errors_before_anything_is_traced() {
    let model = || Sequential::new().push(Linear::new(3));
    let cases = [
        Step::new(model(), CrossEntropy::new(), Sgd::new(f64::NAN)),
        Step::new(model(), CrossEntropy::new(), Sgd::new(0.1).nesterov(true)),
        Step::new(model(), CrossEntropy::new(), Adam::new(0.1).betas(0.9, 1.0)),
        Step::new(model(), CrossEntropy::new().label_smoothing(2.0), Sgd::new(0.1)),
        Step::new(model(), CrossEntropy::new(), Sgd::new(0.1)).clip_norm(0.0),
        Step::new(model(), Mse::new(), Sgd::new(0.1)),
    ];
    for step in cases {
        let error = step.trace(&batch(4)).map(|_| ()).unwrap_err().to_string();
        assert!(!error.is_empty(), "{step:?}");
    }
}

#[test]
fn groups_by_pattern_have_rates_decays_and_state_of_their_own() {
    let step = step()
        .group(ParameterGroup::new(["layers.0.*"]).frozen())
        .group(ParameterGroup::new(["*.bias", "layers.1.*"]).weight_decay(0.0).learning_rate_factor(0.5))
        .schedule(Schedule::Cosine(Cosine::default()));
    let traced = step.trace(&batch(8)).unwrap();
    let updates = Signature::of(&traced.train).updates;
    assert!(!updates.iter().any(|name| name.contains("layers.0.")), "{updates:?}");
    let kept = ["optimizer/m/layers.1.weight", "optimizer/v/layers.3.bias", "layers.3.weight", "layers.1.running_mean"];
    assert!(kept.iter().all(|name| updates.iter().any(|u| u == name)), "{updates:?}");
    // The frozen group has no runtime numbers; the other has AdamW's without a shrinking parameter.
    let names: Vec<String> = step.groups().0.iter().map(|g| g.name.clone()).collect();
    assert_eq!(names, ["", "optimizer.groups.1"]);
    let clock = crate::schedule::Clock::new(0, 10);
    let rates: Vec<f64> = step.groups().rates(clock).iter().map(|r| r.learning_rate).collect();
    assert_eq!(rates, [0.1, 0.05]);
    // One loss, differentiated once: the weight of the frozen layer would be the only product with the input.
    let all = step.clone().trace(&batch(8)).unwrap().train.nodes.len();
    assert!(all < self::step().trace(&batch(8)).unwrap().train.nodes.len());
}

#[test]
fn groups_that_cannot_be_are_errors() {
    let refused = |group: ParameterGroup, part: &str| {
        let error = step().group(group).trace(&batch(8)).map(drop).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    };
    refused(
        ParameterGroup::new(["layers.9.*"]).weight_decay(0.0),
        "`layers.9.*` matches no parameter; there are layers.0.weight",
    );
    refused(ParameterGroup::new(["*"]).frozen(), "every parameter is frozen");
    refused(ParameterGroup::new(["*"]).learning_rate(0.1).learning_rate_factor(0.1), "not both");
    refused(ParameterGroup::new(["*"]).frozen().weight_decay(0.1), "a frozen group is not updated");
    refused(ParameterGroup::new::<&str>([]), "at least one pattern");
    refused(ParameterGroup::new(["*"]).learning_rate(f64::NAN), "learning_rate must be");
    let plain = Step::new(Linear::new(3), CrossEntropy::new(), GradientDescent::new(0.1));
    let error = plain.group(ParameterGroup::new(["*"]).weight_decay(0.1)).trace(&batch(4)).map(drop).unwrap_err();
    assert!(error.to_string().contains("no weight decay"), "{error}");
}

#[test]
fn a_group_updates_its_parameters_only() {
    let groups = Groups(vec![Group::new("a", Sgd::new(0.1)), Group::new("b", Adam::new(0.1))]);
    let traced = trace_step(&groups, DType::F32, Mode::Train, |t| {
        let x = t.input("x", Type::new(DType::F32, [2, 2]));
        let y = t.scope.call("first", &Linear::new(2).bias(false), x);
        let y = t.scope.call("second", &Linear::new(2).bias(false), y);
        let loss = y.sum_all();
        t.update("b", loss, |p| p.layer == "second");
    })
    .unwrap();
    let signature = Signature::of(&traced.graph);
    assert_eq!(signature.updates, ["second.weight", "optimizer/m/second.weight", "optimizer/v/second.weight"]);
    assert_eq!(groups.names()[0], ("a".to_owned(), "learning_rate"));
    let missing = trace_step(&groups, DType::F32, Mode::Train, |t| {
        let loss = t.scope.param("w", [], &Init::Ones);
        t.update("c", loss, |_| true);
    });
    assert!(missing.unwrap_err().to_string().contains("`c`"));
}
