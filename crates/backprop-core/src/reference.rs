//! The oracle: evaluates a graph node by node in f64, slowly and obviously.

use crate::{
    DType, Graph, HostTensor, Type,
    graph::{Shape, ValueId},
    host::to_odd,
    op::Op,
};

/// Elements of an [`Array`]: every floating-point type as f64, every integer (and bool as 0 or 1) exactly.
#[derive(Clone, Debug, PartialEq)]
pub enum Elements {
    /// Floating point.
    Float(Vec<f64>),
    /// Integers and booleans.
    Int(Vec<i128>),
}

/// A tensor of the oracle.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// Type it stands for.
    pub ty: Type,
    /// Row-major elements.
    pub elements: Elements,
}

impl Array {
    /// Zeros.
    pub fn zeros(ty: &Type) -> Array {
        let n = ty.elements();
        let elements = if ty.dtype.is_float() { Elements::Float(vec![0.0; n]) } else { Elements::Int(vec![0; n]) };
        Array { ty: ty.clone(), elements }
    }

    /// Elements from a function of the index vector.
    pub fn from_fn(ty: &Type, f: impl Fn(&[usize]) -> f64) -> Array {
        let values = ty.shape.indices().map(|i| f(&i));
        let elements = if ty.dtype.is_float() {
            Elements::Float(values.collect())
        } else {
            Elements::Int(values.map(|v| wrap(ty.dtype, v as i128)).collect())
        };
        Array { ty: ty.clone(), elements }
    }

    /// Floating-point elements in row-major order.
    pub fn float(ty: &Type, values: Vec<f64>) -> Array {
        Array { ty: ty.clone(), elements: Elements::Float(values) }
    }

    /// Integer elements in row-major order, wrapped to the element type.
    pub fn int(ty: &Type, values: Vec<i128>) -> Array {
        let values = values.into_iter().map(|v| wrap(ty.dtype, v)).collect();
        Array { ty: ty.clone(), elements: Elements::Int(values) }
    }

    /// Picks elements of `self` for a result of type `ty`: `source(index)` is a row-major position in `self`.
    pub fn pick(&self, ty: &Type, source: impl Fn(&[usize]) -> usize) -> Array {
        let positions = ty.shape.indices().map(|i| source(&i));
        let elements = match &self.elements {
            Elements::Float(v) => Elements::Float(positions.map(|p| v[p]).collect()),
            Elements::Int(v) => Elements::Int(positions.map(|p| v[p]).collect()),
        };
        Array { ty: ty.clone(), elements }
    }

    /// Copies element `from` of `source` over element `to`.
    pub fn copy_element(&mut self, to: usize, source: &Array, from: usize) {
        match (&mut self.elements, &source.elements) {
            (Elements::Float(a), Elements::Float(b)) => a[to] = b[from],
            (Elements::Int(a), Elements::Int(b)) => a[to] = b[from],
            _ => {}
        }
    }

    /// Adds element `from` of `source` to element `to`.
    pub fn add_element(&mut self, to: usize, source: &Array, from: usize) {
        let dtype = self.ty.dtype;
        match (&mut self.elements, &source.elements) {
            (Elements::Float(a), Elements::Float(b)) => a[to] += b[from],
            (Elements::Int(a), Elements::Int(b)) => a[to] = wrap(dtype, a[to] + b[from]),
            _ => {}
        }
    }

    /// An element as f64.
    pub fn at(&self, position: usize) -> f64 {
        match &self.elements {
            Elements::Float(v) => v[position],
            Elements::Int(v) => v[position] as f64,
        }
    }

    /// All elements as f64.
    pub fn to_f64(&self) -> Vec<f64> {
        match &self.elements {
            Elements::Float(v) => v.clone(),
            Elements::Int(v) => v.iter().map(|&x| x as f64).collect(),
        }
    }

    /// Integer elements; floating-point ones truncated.
    pub fn to_int(&self) -> Vec<i128> {
        match &self.elements {
            Elements::Float(v) => v.iter().map(|&x| x as i128).collect(),
            Elements::Int(v) => v.clone(),
        }
    }

    /// From host memory.
    pub fn from_host(t: &HostTensor) -> Array {
        let ints = |v: Vec<i128>| Elements::Int(v);
        let elements = match t.dtype() {
            d if d.is_float() => Elements::Float(t.to_f64()),
            DType::I64 => ints(bytemuck::cast_slice::<u8, i64>(t.bytes()).iter().map(|&v| v.into()).collect()),
            DType::U64 => ints(bytemuck::cast_slice::<u8, u64>(t.bytes()).iter().map(|&v| v.into()).collect()),
            _ => ints(t.to_f64().iter().map(|&v| v as i128).collect()),
        };
        Array { ty: t.ty().clone(), elements }
    }

    /// To host memory, rounded to the element type.
    pub fn to_host(&self) -> HostTensor {
        let mut tensor = HostTensor::zeros(self.ty.clone());
        match (&self.elements, self.ty.dtype) {
            (Elements::Int(v), DType::I64 | DType::U64) => {
                let words: Vec<u64> = v.iter().map(|&x| x as u64).collect();
                tensor.bytes_mut().copy_from_slice(bytemuck::cast_slice(&words));
            }
            _ => {
                if let Ok(t) = HostTensor::from_f64(self.ty.dtype, self.ty.shape.clone(), &self.to_f64()) {
                    tensor = t;
                }
            }
        }
        tensor
    }
}

/// An exact integer wrapped to the range of an integer type; nonzero is true for `bool`.
pub fn wrap(dtype: DType, v: i128) -> i128 {
    match dtype {
        DType::Bool => i128::from(v != 0),
        DType::U8 => (v as u8).into(),
        DType::I32 => (v as i32).into(),
        DType::I64 => (v as i64).into(),
        DType::U32 => (v as u32).into(),
        DType::U64 => (v as u64).into(),
        _ => v,
    }
}

/// A floating-point value rounded to a floating-point type.
pub fn round_to(dtype: DType, v: f64) -> f64 {
    match dtype {
        DType::F16 => half::f16::from_f32(to_odd(v)).to_f64(),
        DType::BF16 => half::bf16::from_f32(to_odd(v)).to_f64(),
        DType::F32 => f64::from(v as f32),
        _ => v,
    }
}

/// Evaluates a graph; one array per output.
///
/// # Panics
/// If the inputs are not of the graph's types, or the graph is not valid.
pub fn evaluate(graph: &Graph, inputs: &[Array]) -> Vec<Array> {
    let mut values: Vec<Vec<Array>> = Vec::with_capacity(graph.nodes.len());
    assert_eq!(inputs.len(), graph.inputs.len(), "one array per input");
    for (id, node) in graph.iter() {
        let outputs = if let Op::Input(_) = node.op {
            let position = graph.inputs.iter().position(|i| i.node == id);
            let array = position.map(|p| inputs[p].clone()).unwrap_or_else(|| Array::zeros(&node.outputs[0]));
            assert_eq!(array.ty, node.outputs[0], "type of input {position:?}");
            vec![array]
        } else {
            let operands: Vec<&Array> = node.inputs.iter().map(|v| value(&values, *v)).collect();
            node.op.reference(&operands, &node.outputs)
        };
        values.push(outputs);
    }
    graph.outputs.iter().map(|o| value(&values, o.value).clone()).collect()
}

fn value(values: &[Vec<Array>], v: ValueId) -> &Array {
    &values[v.node.index()][v.output as usize]
}

/// Iterates over all index vectors of the given extents.
pub fn index_space(extents: &[usize]) -> Vec<Vec<usize>> {
    Shape::from(extents).indices().collect()
}
