//! Windows whose position is known only at run time.

use super::{Cost, Derivative, Domain, Primitive, Sample, Vjp, same_dtype};
use crate::{
    DType, Shape, Type,
    reference::Array,
    stablehlo::{Value, Writer},
};
use serde::{Deserialize, Serialize};

/// A window of static size at a position given by one integer scalar per dimension, clamped so that the window fits.
/// Operands: x, then the start indices.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct DynamicSlice {
    /// Extents of the window.
    pub sizes: Vec<usize>,
}

fn check_starts(starts: &[Type], rank: usize) -> Result<(), String> {
    if starts.len() != rank {
        return Err(format!("needs one start index for each of the {rank} dimensions, got {}", starts.len()));
    }
    match starts.iter().find(|t| !t.shape.is_empty() || !t.dtype.is_int()) {
        Some(t) => Err(format!("start indices must be integer scalars, got {t}")),
        None => Ok(()),
    }
}

fn check_window(shape: &Shape, sizes: &[usize]) -> Result<(), String> {
    if sizes.len() == shape.len() && sizes.iter().zip(shape.iter()).all(|(w, d)| w <= d) {
        return Ok(());
    }
    Err(format!("a window of {} does not fit into {shape}", Shape::from(sizes)))
}

/// First index of the window per dimension, clamped.
fn starts(arrays: &[&Array], shape: &Shape, sizes: &[usize]) -> Vec<usize> {
    let clamped = |d: usize| arrays[d].to_int()[0].clamp(0, (shape[d] - sizes[d]) as i128) as usize;
    (0..shape.len()).map(clamped).collect()
}

/// Start indices in one type, as StableHLO wants them.
fn start_indices(w: &mut Writer, starts: &[Value]) -> Vec<Value> {
    let one = starts.iter().all(|s| s.ty.dtype == starts[0].ty.dtype);
    starts.iter().map(|s| if one { s.clone() } else { w.convert(s, DType::I64) }).collect()
}

fn shifted(index: &[usize], start: &[usize]) -> Vec<usize> {
    index.iter().zip(start).map(|(i, s)| i + s).collect()
}

impl Primitive for DynamicSlice {
    fn name(&self) -> &'static str {
        "dynamic_slice"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>, String> {
        let x = inputs.first().ok_or("needs an operand")?;
        check_window(&x.shape, &self.sizes)?;
        check_starts(&inputs[1..], x.shape.len())?;
        Ok(vec![Type::new(x.dtype, &self.sizes[..])])
    }

    fn reference(&self, inputs: &[&Array], outputs: &[Type]) -> Vec<Array> {
        let shape = &inputs[0].ty.shape;
        let start = starts(&inputs[1..], shape, &self.sizes);
        vec![inputs[0].pick(&outputs[0], |out| shape.ravel(&shifted(out, &start)))]
    }

    fn vjp<'g>(&self, cx: &Vjp<'g>) -> Derivative<'g> {
        let g = cx.ct();
        let zeros = g.builder().zeros(cx.inputs[0].ty());
        let mut result = vec![None; cx.inputs.len()];
        result[0] = Some(zeros.dynamic_update_slice(g, &cx.inputs[1..]));
        Derivative::Rule(result)
    }

    fn cost(&self, _: &[Type], outputs: &[Type]) -> Cost {
        Cost::movement(outputs, outputs)
    }

    fn stablehlo(&self, w: &mut Writer, inputs: &[Value], outputs: &[Type]) -> Vec<Value> {
        let starts = start_indices(w, &inputs[1..]);
        let operands: Vec<&Value> = inputs[..1].iter().chain(&starts).collect();
        vec![w.op("dynamic_slice", &operands, &Writer::numbers("slice_sizes", &self.sizes), &outputs[0])]
    }

    fn samples() -> Vec<Sample> {
        let cases: &[(&[usize], &[usize])] = &[
            (&[], &[]),
            (&[5], &[2]),
            (&[4, 5], &[2, 3]),
            (&[4, 5], &[4, 5]),
            (&[3, 5], &[1, 5]),
            (&[0, 3], &[0, 2]),
            (&[3, 2], &[0, 1]),
            (&[1, 1], &[1, 1]),
            (&[3, 4, 2], &[1, 3, 2]),
            (&[9], &[9]),
        ];
        let index = (Type::scalar(DType::I32), Domain::Integers(-1, 4));
        let sample = |shape: &[usize], sizes: &[usize]| {
            let mut inputs = vec![(Type::new(DType::F64, shape), Domain::Uniform(-2.0, 2.0))];
            inputs.extend(vec![index.clone(); shape.len()]);
            Sample::new(DynamicSlice { sizes: sizes.to_vec() }, inputs)
        };
        cases.iter().map(|(shape, sizes)| sample(shape, sizes)).collect()
    }
}

/// x with a window replaced by `update`, at a position as in [`DynamicSlice`]. Operands: x, update, then the start indices.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct DynamicUpdateSlice {}

impl Primitive for DynamicUpdateSlice {
    fn name(&self) -> &'static str {
        "dynamic_update_slice"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>, String> {
        let [x, update, starts @ ..] = inputs else { return Err("needs an operand and an update".into()) };
        same_dtype(x.dtype, update.dtype)?;
        check_window(&x.shape, &update.shape)?;
        check_starts(starts, x.shape.len())?;
        Ok(vec![x.clone()])
    }

    fn reference(&self, inputs: &[&Array], outputs: &[Type]) -> Vec<Array> {
        let (shape, window) = (&outputs[0].shape, &inputs[1].ty.shape);
        let start = starts(&inputs[2..], shape, window);
        let mut result = inputs[0].clone();
        window.indices().enumerate().for_each(|(i, w)| {
            result.copy_element(shape.ravel(&shifted(&w, &start)), inputs[1], i);
        });
        vec![result]
    }

    fn vjp<'g>(&self, cx: &Vjp<'g>) -> Derivative<'g> {
        let (g, update, at) = (cx.ct(), cx.inputs[1], &cx.inputs[2..]);
        let mut result = vec![None; cx.inputs.len()];
        result[0] = cx.wanted[0].then(|| g.dynamic_update_slice(g.builder().zeros(update.ty()), at));
        result[1] = cx.wanted[1].then(|| g.dynamic_slice(at, &update.shape()));
        Derivative::Rule(result)
    }

    fn cost(&self, inputs: &[Type], outputs: &[Type]) -> Cost {
        Cost::movement(inputs, outputs)
    }

    fn stablehlo(&self, w: &mut Writer, inputs: &[Value], outputs: &[Type]) -> Vec<Value> {
        let starts = start_indices(w, &inputs[2..]);
        let operands: Vec<&Value> = inputs[..2].iter().chain(&starts).collect();
        vec![w.op("dynamic_update_slice", &operands, "", &outputs[0])]
    }

    fn samples() -> Vec<Sample> {
        let sample = |s: Sample| match s.op {
            super::Op::DynamicSlice(op) => {
                let mut inputs = s.inputs;
                inputs.insert(1, (Type::new(DType::F64, &op.sizes[..]), Domain::Uniform(-2.0, 2.0)));
                Some(Sample::new(DynamicUpdateSlice {}, inputs))
            }
            _ => None,
        };
        DynamicSlice::samples().into_iter().filter_map(sample).collect()
    }
}
