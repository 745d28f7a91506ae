//! Bad input of every kind: exit code 2 and a message that names place and remedy.
//!
//! The expected messages are the files in `messages/`; run with BACKPROP_UPDATE_MESSAGES=1 to write them anew, and read what changed.

use super::Workplace;
use std::{env, fs, path::Path, process::Command};

pub(super) const GOOD: &str = r#"[data]
source = "clusters"
rows = 40
features = 4
classes = 3

[[layers]]
type = "linear"
out_features = 8

[[layers]]
type = "relu"

[[layers]]
type = "linear"
out_features = 3

[loss]
type = "cross_entropy"

[optimizer]
type = "sgd"
learning_rate = 0.1

[train]
epochs = 1
batch_size = 8
"#;

/// Runs the program on bad input and compares what it says with the file of that name.
pub(super) fn refuses(name: &str, place: &Workplace, arguments: &[&str]) {
    refuses_command(name, place, &mut place.command(arguments));
}

/// As [`refuses`], for a command with an environment of its own.
pub(super) fn refuses_command(name: &str, place: &Workplace, command: &mut Command) {
    let output = command.output().unwrap();
    let folder = fs::canonicalize(place.folder.path()).unwrap().display().to_string();
    let said = String::from_utf8(output.stderr)
        .unwrap()
        .replace(&folder, "DIR")
        .replace(&place.folder.path().display().to_string(), "DIR");
    assert_eq!(output.status.code(), Some(2), "{name}: {said}");
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/messages").join(format!("{name}.txt"));
    if env::var_os("BACKPROP_UPDATE_MESSAGES").is_some() {
        fs::write(&file, &said).unwrap();
    }
    let expected = fs::read_to_string(&file).unwrap_or_default();
    assert_eq!(said, expected, "{name}");
}

/// Trains the good configuration with a part of it replaced.
fn refuses_change(name: &str, from: &str, to: &str) {
    assert!(GOOD.contains(from), "{from}");
    let place = Workplace::new();
    place.write("model.toml", GOOD.replacen(from, to, 1));
    refuses(name, &place, &["train", "model.toml", "--out", "run"]);
    assert!(!place.path("run").exists(), "{name}: a run folder was left behind");
}

/// A finished run of the good configuration in `run`.
pub(super) fn finished() -> Workplace {
    let place = Workplace::new();
    place.write("model.toml", GOOD);
    place.succeed(&["train", "model.toml", "--out", "run", "--set", "train.checkpoint_every_steps=2"]);
    place
}

#[test]
fn mistakes_in_the_configuration() {
    refuses_change("misspelt_key", "out_features = 8", "out_feature = 8");
    refuses_change("misspelt_section", "[optimizer]", "[optimiser]");
    refuses_change("wrong_type", "epochs = 1", "epochs = \"one\"");
    refuses_change("fraction_for_count", "epochs = 1", "epochs = 1.5");
    refuses_change("unknown_layer", "type = \"relu\"", "type = \"rellu\"");
    refuses_change("unknown_source", "\"clusters\"", "\"imagenet\"");
    refuses_change("unknown_optimizer", "\"sgd\"", "\"adamm\"");
    refuses_change("missing_key", "out_features = 3", "");
    refuses_change("not_toml", "rows = 40", "rows == 40");
    refuses_change("no_layers", &GOOD[GOOD.find("[[layers]]").unwrap()..GOOD.find("[loss]").unwrap()], "");
    refuses_change("key_of_another_optimizer", "learning_rate = 0.1", "learning_rate = 0.1\nbetas = [0.9, 0.99]");
}

#[test]
fn numbers_out_of_range() {
    refuses_change("zero_size", "out_features = 8", "out_features = 0");
    refuses_change("negative_size", "out_features = 8", "out_features = -8");
    refuses_change("nan_rate", "learning_rate = 0.1", "learning_rate = nan");
    refuses_change("negative_rate", "learning_rate = 0.1", "learning_rate = -0.1");
    refuses_change("infinite_rate", "learning_rate = 0.1", "learning_rate = inf");
    refuses_change("zero_batch", "batch_size = 8", "batch_size = 0");
    refuses_change("zero_threads_configured", "batch_size = 8", "batch_size = 8\nthreads = 0");
    refuses_change("bad_probability", "type = \"relu\"", "type = \"dropout\"\np = 1.5");
    refuses_change("validation_of_all", "rows = 40", "rows = 40\nvalidation = 1.0");
    refuses_change("no_rows", "rows = 40", "rows = 0");
}

#[test]
fn optimizers_schedules_and_groups() {
    let rate = "learning_rate = 0.1";
    let group = |lines: &str| format!("{rate}\n[[optimizer.groups]]\n{lines}");
    refuses_change("pattern_without_a_match", rate, &group("match = [\"*.bias\", \"layer.0.*\"]\nlearning_rate_factor = 0.1"));
    refuses_change("all_frozen", rate, &group("match = \"*\"\nfrozen = true"));
    refuses_change("rate_and_factor", rate, &group("match = \"*\"\nlearning_rate = 0.1\nlearning_rate_factor = 0.1"));
    refuses_change("misspelt_group_key", rate, &group("match = \"*\"\nfreeze = true"));
    refuses_change("negative_factor", rate, &group("match = \"*\"\nlearning_rate_factor = -1"));
    let schedule = |lines: &str| format!("[schedule]\n{lines}\n\n[train]");
    refuses_change("milestones_not_increasing", "[train]", &schedule("type = \"multi_step\"\nmilestones = [3, 6, 6]"));
    refuses_change("milestone_zero", "[train]", &schedule("type = \"multi_step\"\nmilestones = [0, 6]"));
    refuses_change("unknown_schedule", "[train]", &schedule("type = \"expnential\"\ngamma = 0.9"));
    let parts = "type = \"sequential\"\nmilestones = [3]\nparts = [{ type = \"constant\" }]";
    refuses_change("parts_without_milestones", "[train]", &schedule(parts));
}

#[test]
fn what_watches_a_validation_that_is_not_there() {
    let none = "rows = 40\nvalidation = 0";
    let place = Workplace::new();
    place.write("model.toml", GOOD.replacen("rows = 40", none, 1));
    refuses("early_stopping_without_validation", &place, &["train", "model.toml", "--set", "train.early_stopping=5"]);
    refuses("plateau_without_validation", &place, &["train", "model.toml", "--set", "schedule.type=plateau"]);
    refuses_change("more_parts_than_rows", "batch_size = 8", "batch_size = 8\naccumulate = 9");
    refuses_change("no_parts", "batch_size = 8", "batch_size = 8\naccumulate = 0");
    refuses_change("ema_of_one", "batch_size = 8", "batch_size = 8\nema = 1.0");
    refuses_change("early_stopping_after_no_epoch", "batch_size = 8", "batch_size = 8\nearly_stopping = 0");
}

#[test]
fn losses_and_metrics_that_do_not_fit() {
    let metrics = |name: &str, tables: &str| refuses_change(name, "[optimizer]", &format!("{tables}\n[optimizer]"));
    metrics("metric_unknown", "[[metrics]]\ntype = \"acuracy\"");
    metrics("metric_twice", "[[metrics]]\ntype = \"accuracy\"\n[[metrics]]\ntype = \"accuracy\"");
    metrics("metric_of_numbers", "[[metrics]]\ntype = \"rmse\"");
    metrics("metric_k_too_large", "[[metrics]]\ntype = \"top_k\"\nk = 9");
    metrics("metric_k_zero", "[[metrics]]\ntype = \"top_k\"\nk = 0");
    metrics("metrics_no_list", "[metrics]\ntype = \"accuracy\"");
    let loss = |name: &str, to: &str| refuses_change(name, "type = \"cross_entropy\"", to);
    loss("loss_weights_count", "type = \"cross_entropy\"\nweight = [1.0, 2.0]");
    loss("loss_weights_negative", "type = \"cross_entropy\"\nweight = [1.0, -2.0, 1.0]");
    loss("loss_weights_word", "type = \"cross_entropy\"\nweight = \"even\"");
    loss("loss_bce_three_classes", "type = \"bce_with_logits\"");
    loss("loss_of_numbers", "type = \"l1\"");
    loss("loss_quantile_range", "type = \"quantile\"\nq = 1.0");
    loss("loss_delta_zero", "type = \"huber\"\ndelta = 0.0");
    // A network that restores its input: numbers are the target.
    let numbers = |name: &str, to: &str| {
        let place = Workplace::new();
        let restoring =
            GOOD.replacen("rows = 40", "rows = 40\ntarget = \"point\"", 1).replacen("out_features = 3", "out_features = 4", 1);
        place.write("model.toml", restoring.replacen("type = \"cross_entropy\"", to, 1));
        refuses(name, &place, &["train", "model.toml", "--out", "run"]);
    };
    numbers("loss_balanced_numbers", "type = \"cross_entropy\"\nweight = \"balanced\"");
    numbers("metric_of_classes", "type = \"mse\"\n[[metrics]]\ntype = \"f1\"");
    loss("loss_of_log_probabilities", "type = \"kl_div\"");
}

#[test]
fn networks_larger_than_the_machine() {
    refuses_change("larger_than_any_memory", "out_features = 8", "out_features = 4000000000000000000");
    let place = Workplace::new();
    place.write("model.toml", GOOD.replacen("out_features = 8", "out_features = 400000000000", 1));
    let output = place.run(&["train", "model.toml", "--out", "run"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("GiB is all that this machine or its container has; use a smaller train.batch_size"), "{said}");
    assert!(!place.path("run").exists(), "a run folder was left behind");
    let inspected = place.run(&["inspect", "model.toml"]);
    assert_eq!(inspected.status.code(), Some(0), "what does not fit can still be inspected");
}

#[test]
fn networks_that_do_not_fit() {
    refuses_change("shapes_do_not_fit", "type = \"relu\"", "type = \"conv2d\"\nout_channels = 4\nkernel_size = 3");
    refuses_change(
        "shapes_do_not_fit_inside",
        "type = \"relu\"",
        "type = \"residual\"\nbody = [\n    { type = \"relu\" },\n    { type = \"max_pool2d\", kernel_size = 2 },\n]",
    );
    refuses_change(
        "residual_of_two_shapes",
        "type = \"relu\"",
        "type = \"residual\"\nbody = [{ type = \"linear\", out_features = 5 }]",
    );
    refuses_change("too_few_outputs", "out_features = 3", "out_features = 2");
    refuses_change("loss_does_not_fit", "\"cross_entropy\"", "\"mse\"");
    refuses_change("unknown_column", "rows = 40", "rows = 40\ntarget = \"price\"");
}

#[test]
fn overrides_and_arguments() {
    let place = Workplace::new();
    place.write("model.toml", GOOD);
    refuses("set_without_value", &place, &["train", "model.toml", "--set", "train.epochs"]);
    refuses("set_unknown_key", &place, &["train", "model.toml", "--set", "train.epoch=3"]);
    refuses("set_bad_value", &place, &["train", "model.toml", "--set", "optimizer.learning_rate=fast"]);
    refuses("set_unknown_layer", &place, &["train", "model.toml", "--set", "layers.7.out_features=3"]);
    refuses("empty_layers", &place, &["train", "model.toml", "--set", "layers=[]"]);
    refuses("zero_threads", &place, &["train", "model.toml", "--threads", "0"]);
    refuses("bad_time", &place, &["train", "model.toml", "--max-time", "2 weeks"]);
    refuses("bad_time_configured", &place, &["train", "model.toml", "--set", "train.max_time=90"]);
    refuses("resume_with_configuration", &place, &["train", "model.toml", "--resume", "run"]);
    refuses("unknown_pass", &place, &["inspect", "model.toml", "--pass", "vectorise"]);
    refuses("unknown_command", &place, &["tran", "model.toml"]);
}

#[test]
fn files_and_folders() {
    let place = Workplace::new();
    refuses("missing_configuration", &place, &["train", "nothing.toml"]);
    refuses("resume_of_nothing", &place, &["train", "--resume", "nowhere"]);
    refuses("evaluation_of_nothing", &place, &["eval", "nowhere"]);
    place.write("model.toml", GOOD);
    place.write("file", "");
    refuses("unwritable_folder", &place, &["train", "model.toml", "--out", "file/run"]);
    refuses("existing_folder", &place, &["train", "model.toml", "--out", "file"]);
    place.write(
        "text.toml",
        GOOD.replace("source = \"clusters\"\nrows = 40\nfeatures = 4\nclasses = 3", "source = \"text\"\npath = \"notes.txt\""),
    );
    refuses("missing_data", &place, &["train", "text.toml"]);
    place.write("notes.txt", [0x66, 0xff, 0x66]);
    refuses("text_not_utf8", &place, &["train", "text.toml"]);
}

/// An IDX file of bytes.
fn idx(sizes: &[u32], data: &[u8]) -> Vec<u8> {
    let mut file = vec![0, 0, 8, sizes.len() as u8];
    sizes.iter().for_each(|s| file.extend(s.to_be_bytes()));
    file.extend(data);
    file
}

#[test]
fn data_files() {
    let place = Workplace::new();
    let source = "source = \"idx\"\nimages = \"images\"\nlabels = \"labels\"";
    place.write("model.toml", GOOD.replace("source = \"clusters\"\nrows = 40\nfeatures = 4\nclasses = 3", source));
    place.write("labels", idx(&[6], &[0, 1, 2, 0, 1, 2]));
    place.write("images", idx(&[6, 2, 2], &[7; 23]));
    refuses("truncated_idx", &place, &["train", "model.toml"]);
    place.write("images", "PNG");
    refuses("not_idx", &place, &["train", "model.toml"]);
    place.write("images", idx(&[5, 2, 2], &[7; 20]));
    refuses("rows_differ", &place, &["train", "model.toml"]);
    place.write("images", idx(&[6, 2, 2], &[7; 24]));
    let classes = format!("{source}\nclasses = [\"cat\", \"dog\"]");
    place.write("model.toml", place.text("model.toml").replace(source, &classes));
    refuses("label_out_of_range", &place, &["train", "model.toml"]);
}

#[test]
fn damaged_runs() {
    let place = finished();
    let damaged = |name: &str| {
        let bytes = place.read(name);
        place.write(name, &bytes[..bytes.len() / 2]);
    };
    damaged("run/weights.safetensors");
    refuses("damaged_weights", &place, &["eval", "run"]);
    fs::remove_file(place.path("run/weights.safetensors")).unwrap();
    refuses("no_weights", &place, &["eval", "run"]);
    for entry in fs::read_dir(place.path("run/checkpoints")).unwrap().flatten() {
        let name = format!("run/checkpoints/{}/state.safetensors", entry.file_name().display());
        if place.path(&name).exists() {
            damaged(&name);
        }
    }
    refuses("damaged_checkpoints", &place, &["train", "--resume", "run"]);
    place.write("run/config.toml", place.text("run/config.toml").replace("out_features = 8", "out_features = 9"));
    let again = finished();
    again.write("run/config.toml", again.text("run/config.toml").replace("out_features = 8", "out_features = 9"));
    refuses("weights_of_another_network", &again, &["eval", "run"]);
    refuses("checkpoint_of_another_network", &again, &["train", "--resume", "run"]);
}

#[test]
fn models_that_cannot_be_used() {
    let place = finished();
    place.write("points.csv", "1,2,3,4\n5,6,7\n");
    place.write("words.csv", "1,2,three,4\n");
    place.write("good.csv", "1,2,3,4\n");
    place.write("nothing.csv", "");
    refuses("predict_no_run", &place, &["predict", "model.toml", "points.csv"]);
    refuses("predict_wrong_count", &place, &["predict", "run", "points.csv"]);
    refuses("predict_words", &place, &["predict", "run", "words.csv"]);
    refuses("predict_nothing", &place, &["predict", "run", "nothing.csv"]);
    refuses("predict_no_file", &place, &["predict", "run", "absent.csv"]);
    refuses("predict_unwritable", &place, &["predict", "run", "good.csv", "--out", "absent/out.csv"]);
    refuses("generate_by_classifier", &place, &["generate", "run"]);
    let coding = place.text("run/preprocessing.json");
    place.write("run/preprocessing.json", coding.replacen("\"format\":1", "\"format\":7", 1));
    refuses("later_coding", &place, &["predict", "run", "points.csv"]);
    place.write("run/preprocessing.json", &coding[..coding.len() / 2]);
    refuses("damaged_coding", &place, &["predict", "run", "points.csv"]);
    place.write("run/preprocessing.json", &coding);
    std::fs::remove_file(place.path("run/weights.safetensors")).unwrap();
    std::fs::remove_dir_all(place.path("run/checkpoints")).unwrap();
    refuses("predict_no_weights", &place, &["predict", "run", "points.csv"]);
}

#[test]
fn formats_of_a_later_version() {
    let place = finished();
    let replace = |name: &str, from: &str, to: &str| {
        let text = place.text(name);
        assert!(text.contains(from), "{text}");
        place.write(name, text.replacen(from, to, 1));
    };
    let latest = format!("run/checkpoints/{}/manifest.json", place.text("run/checkpoints/latest"));
    replace(&latest, "\"version\": 1", "\"version\": 2");
    refuses("later_checkpoint", &place, &["train", "--resume", "run"]);
    replace("run/config.toml", "format = 1", "format = 2\nnovelty = true");
    refuses("later_configuration", &place, &["eval", "run"]);
    replace("run/config.toml", "format = 2", "format = \"new\"");
    refuses("format_of_no_version", &place, &["eval", "run"]);
    replace("run/run.json", "{\"format\":1", "{\"format\":2,\"novelty\":true");
    replace("run/run.json", env!("CARGO_PKG_VERSION"), "9.1.0");
    refuses("later_run", &place, &["train", "--resume", "run"]);
    place.write("run/run.json", "{");
    refuses("damaged_run", &place, &["eval", "run"]);
}

#[test]
fn what_must_not_change_when_a_run_goes_on() {
    let place = finished();
    refuses("resume_with_another_batch", &place, &["train", "--resume", "run", "--set", "train.batch_size=4"]);
    place.write("run/config.toml", place.text("run/config.toml").replace("epochs = 1", "epochs = 3"));
    refuses("resume_with_fewer_epochs", &place, &["train", "--resume", "run", "--set", "train.epochs=2"]);
}
