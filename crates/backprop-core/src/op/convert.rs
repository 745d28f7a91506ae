//! Conversion between element types.

use super::{Derivative, Domain, Primitive, Sample, Vjp, arity, elementwise::SHAPES};
use crate::{
    DType, Type,
    reference::{Array, Elements, round_to},
    stablehlo::{Value, Writer},
};
use serde::{Deserialize, Serialize};

/// Conversion of the element type. Floating point to integer truncates and saturates, NaN to 0; to bool: whether nonzero.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Convert {
    /// Element type of the result.
    #[serde(with = "dtype_name")]
    pub to: DType,
}

/// Element types by name, for the attributes of primitives.
pub(crate) mod dtype_name {
    use crate::DType;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(dtype: &DType, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(dtype.name())
    }
    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<DType, D::Error> {
        let name = String::deserialize(d)?;
        DType::from_name(&name).ok_or_else(|| D::Error::custom(format!("`{name}` is not an element type")))
    }
}

fn float_to_int(dtype: DType, v: f64) -> i128 {
    match dtype {
        DType::Bool => (v != 0.0).into(),
        DType::U8 => (v as u8).into(),
        DType::I32 => (v as i32).into(),
        DType::I64 => (v as i64).into(),
        DType::U32 => (v as u32).into(),
        _ => (v as u64).into(),
    }
}

impl Primitive for Convert {
    fn name(&self) -> &'static str {
        "convert"
    }
    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>, String> {
        arity(inputs, 1)?;
        Ok(vec![Type::new(self.to, &inputs[0].shape)])
    }
    fn reference(&self, inputs: &[&Array], outputs: &[Type]) -> Vec<Array> {
        let ty = &outputs[0];
        vec![match (&inputs[0].elements, self.to.is_float()) {
            (Elements::Float(v), true) => Array::float(ty, v.iter().map(|&x| round_to(self.to, x)).collect()),
            (Elements::Float(v), false) => Array::int(ty, v.iter().map(|&x| float_to_int(self.to, x)).collect()),
            (Elements::Int(v), true) => Array::float(ty, v.iter().map(|&x| round_to(self.to, x as f64)).collect()),
            (Elements::Int(v), false) => Array::int(ty, v.clone()),
        }]
    }
    fn vjp<'g>(&self, cx: &Vjp<'g>) -> Derivative<'g> {
        let from = cx.inputs[0].dtype();
        if from.is_float() && self.to.is_float() {
            Derivative::Rule(vec![Some(cx.ct().convert(from))])
        } else {
            Derivative::Zero("conversion from or to a discrete type")
        }
    }
    fn stablehlo(&self, w: &mut Writer, inputs: &[Value], _: &[Type]) -> Vec<Value> {
        vec![w.convert(&inputs[0], self.to)]
    }
    fn samples() -> Vec<Sample> {
        let targets = [DType::F64, DType::I32, DType::Bool, DType::U8, DType::I64];
        let sample = |to, s: &[usize]| Sample::f64(Convert { to }, &[s], Domain::Uniform(0.1, 3.0));
        targets.iter().flat_map(|&to| SHAPES.iter().map(move |s| sample(to, s))).collect()
    }
}
