//! Inputs, constants, iota, and the identities that steer differentiation and passes.

use super::{Cost, Derivative, Domain, Primitive, Sample, Vjp, arity};
use crate::{
    DType, HostTensor, Type,
    host::Literal,
    reference::Array,
    stablehlo::{Value, Writer},
};
use serde::{Deserialize, Serialize};

/// An input of the graph.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct InputOp {
    /// Its type.
    pub ty: Type,
}

impl Primitive for InputOp {
    fn name(&self) -> &'static str {
        "input"
    }
    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>, String> {
        arity(inputs, 0)?;
        Ok(vec![self.ty.clone()])
    }
    fn reference(&self, _: &[&Array], outputs: &[Type]) -> Vec<Array> {
        vec![Array::zeros(&outputs[0])]
    }
    fn vjp<'g>(&self, _: &Vjp<'g>) -> Derivative<'g> {
        Derivative::Rule(Vec::new())
    }
    fn cost(&self, _: &[Type], _: &[Type]) -> Cost {
        Cost::default()
    }
    fn stablehlo(&self, w: &mut Writer, _: &[Value], _: &[Type]) -> Vec<Value> {
        // Where an input stands for an argument, the module knows its value.
        vec![w.fresh(&self.ty)]
    }
    fn samples() -> Vec<Sample> {
        Vec::new()
    }
}

/// A constant tensor.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Constant {
    /// The elements.
    pub value: Literal,
}

#[derive(Serialize, Deserialize)]
struct ConstantText {
    ty: Type,
    /// Little-endian bytes in hexadecimal.
    hex: String,
}

impl Serialize for Constant {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let hex = self.value.bytes().iter().map(|b| format!("{b:02x}")).collect();
        ConstantText { ty: self.value.ty().clone(), hex }.serialize(s)
    }
}

impl<'de> Deserialize<'de> for Constant {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = ConstantText::deserialize(d)?;
        let byte = |i: usize| text.hex.get(2 * i..2 * i + 2).and_then(|h| u8::from_str_radix(h, 16).ok());
        let bytes: Option<Vec<u8>> = (0..text.hex.len() / 2).map(byte).collect();
        let bytes = bytes.ok_or_else(|| serde::de::Error::custom("`hex` is not hexadecimal"))?;
        let value = HostTensor::from_bytes(text.ty, &bytes).map_err(serde::de::Error::custom)?;
        Ok(Constant { value: value.into() })
    }
}

impl Primitive for Constant {
    fn name(&self) -> &'static str {
        "constant"
    }
    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>, String> {
        arity(inputs, 0)?;
        Ok(vec![self.value.ty().clone()])
    }
    fn reference(&self, _: &[&Array], _: &[Type]) -> Vec<Array> {
        vec![Array::from_host(&self.value)]
    }
    fn vjp<'g>(&self, _: &Vjp<'g>) -> Derivative<'g> {
        Derivative::Rule(Vec::new())
    }
    fn cost(&self, _: &[Type], _: &[Type]) -> Cost {
        Cost::default()
    }
    fn stablehlo(&self, w: &mut Writer, _: &[Value], _: &[Type]) -> Vec<Value> {
        vec![w.constant(&self.value)]
    }
    fn samples() -> Vec<Sample> {
        let value = HostTensor::new([3], &[1.5f64, -2.0, 0.0]).map(Literal::from);
        value.into_iter().map(|value| Sample::new(Constant { value }, Vec::new())).collect()
    }
}

/// The index along one dimension, as elements: `iota[.., i, ..] = i`.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Iota {
    /// Type of the result.
    pub ty: Type,
    /// Dimension counted along.
    pub dim: usize,
}

impl Primitive for Iota {
    fn name(&self) -> &'static str {
        "iota"
    }
    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>, String> {
        arity(inputs, 0)?;
        if self.dim >= self.ty.shape.len() {
            return Err(format!("dimension {} does not exist in {}", self.dim, self.ty));
        }
        if self.ty.dtype == DType::Bool {
            return Err("cannot count in bool".into());
        }
        Ok(vec![self.ty.clone()])
    }
    fn reference(&self, _: &[&Array], outputs: &[Type]) -> Vec<Array> {
        vec![Array::from_fn(&outputs[0], |index| index[self.dim] as f64)]
    }
    fn vjp<'g>(&self, _: &Vjp<'g>) -> Derivative<'g> {
        Derivative::Rule(Vec::new())
    }
    fn stablehlo(&self, w: &mut Writer, _: &[Value], _: &[Type]) -> Vec<Value> {
        vec![w.op("iota", &[], &format!("iota_dimension = {} : i64", self.dim), &self.ty)]
    }
    fn samples() -> Vec<Sample> {
        let iota = |shape: &[usize], dim| Sample::new(Iota { ty: Type::new(DType::I32, shape), dim }, Vec::new());
        vec![iota(&[5], 0), iota(&[2, 3], 0), iota(&[2, 3], 1), iota(&[0, 3], 1), iota(&[1, 7, 2], 1)]
    }
}

/// Identity whose derivative is zero.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct StopGradient {}

impl Primitive for StopGradient {
    fn name(&self) -> &'static str {
        "stop_gradient"
    }
    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>, String> {
        arity(inputs, 1)?;
        Ok(inputs.to_vec())
    }
    fn reference(&self, inputs: &[&Array], _: &[Type]) -> Vec<Array> {
        vec![inputs[0].clone()]
    }
    fn vjp<'g>(&self, _: &Vjp<'g>) -> Derivative<'g> {
        Derivative::Zero("stop_gradient ends differentiation on purpose")
    }
    fn stablehlo(&self, _: &mut Writer, inputs: &[Value], _: &[Type]) -> Vec<Value> {
        inputs.to_vec()
    }
    fn samples() -> Vec<Sample> {
        vec![Sample::f64(StopGradient {}, &[&[2, 3]], Domain::Uniform(-2.0, 2.0))]
    }
}

/// Identity on any number of operands that no pass looks through: what is computed from its results is not merged with what is
/// computed from its operands. Recomputation in the backward pass stands behind one.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Barrier {}

impl Primitive for Barrier {
    fn name(&self) -> &'static str {
        "optimization_barrier"
    }
    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>, String> {
        Ok(inputs.to_vec())
    }
    fn reference(&self, inputs: &[&Array], _: &[Type]) -> Vec<Array> {
        inputs.iter().map(|&a| a.clone()).collect()
    }
    fn vjp<'g>(&self, cx: &Vjp<'g>) -> Derivative<'g> {
        Derivative::Rule(cx.cotangents.clone())
    }
    fn cost(&self, _: &[Type], _: &[Type]) -> Cost {
        Cost::default()
    }
    fn stablehlo(&self, w: &mut Writer, inputs: &[Value], outputs: &[Type]) -> Vec<Value> {
        w.ops("optimization_barrier", &inputs.iter().collect::<Vec<_>>(), "", outputs)
    }
    fn samples() -> Vec<Sample> {
        let shapes: [&[&[usize]]; 8] =
            [&[&[2, 3], &[5]], &[&[]], &[&[1]], &[&[0], &[2]], &[&[7]], &[&[3, 5], &[3, 5]], &[&[1, 4]], &[&[2, 3, 2]]];
        shapes.map(|s| Sample::f64(Barrier {}, s, Domain::Uniform(-2.0, 2.0))).into()
    }
}

/// Stand-in for the result of an operation that could not be traced. The error is with the builder; a finished graph has none.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Invalid {
    /// Best guess of the type, so that later messages make sense.
    pub ty: Type,
}

impl Primitive for Invalid {
    fn name(&self) -> &'static str {
        "invalid"
    }
    fn infer(&self, _: &[Type]) -> Result<Vec<Type>, String> {
        Err("stands for an operation that failed to trace".into())
    }
    fn reference(&self, _: &[&Array], outputs: &[Type]) -> Vec<Array> {
        outputs.iter().map(Array::zeros).collect()
    }
    fn vjp<'g>(&self, _: &Vjp<'g>) -> Derivative<'g> {
        Derivative::Zero("the operation failed to trace")
    }
    fn stablehlo(&self, w: &mut Writer, _: &[Value], outputs: &[Type]) -> Vec<Value> {
        outputs.iter().map(|ty| w.fresh(ty)).collect()
    }
    fn samples() -> Vec<Sample> {
        Vec::new()
    }
}
