//! Windows at positions given by an index tensor: embedding look-up and its gradient, and everything like them.

use super::{Cost, Derivative, Domain, Primitive, Sample, Vjp, arity, distinct_dims, same_dtype};
use crate::{
    DType, HostTensor, Shape, Tensor, Type,
    reference::{Array, index_space},
    stablehlo::{Value, Writer},
};
use serde::{Deserialize, Serialize};

/// For every index vector (last dimension of the indices), the window of the operand that starts there; clamped to fit.
/// Operands: x, indices. The result has the indices' other dimensions and, at `offset_dims`, the window's that are not collapsed.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Gather {
    /// Dimensions of the result that run over the window; ascending.
    pub offset_dims: Vec<usize>,
    /// Dimensions of the operand whose window extent is 1 and is dropped; ascending.
    pub collapsed_dims: Vec<usize>,
    /// For each component of an index vector, the dimension of the operand it indexes.
    pub start_index_map: Vec<usize>,
    /// Extents of the window, per dimension of the operand.
    pub slice_sizes: Vec<usize>,
}

impl Gather {
    /// Rows of a matrix (or slabs of a tensor) by index along dimension 0; `batch_rank` dimensions of indices without the last.
    pub fn rows(operand: &Shape, batch_rank: usize) -> Gather {
        let mut slice_sizes = operand.to_vec();
        slice_sizes[0] = 1;
        Gather {
            offset_dims: (batch_rank..batch_rank + operand.len() - 1).collect(),
            collapsed_dims: vec![0],
            start_index_map: vec![0],
            slice_sizes,
        }
    }
}

/// Correspondence between (index vector, window position) and operand position, shared by gather and scatter.
struct Windows<'a> {
    operand: &'a Shape,
    /// Operand dimensions that the window dimensions run over.
    window_dims: Vec<usize>,
    /// Dimensions of the gathered tensor that run over the window.
    offset_dims: &'a [usize],
    start_index_map: &'a [usize],
    sizes: Vec<usize>,
}

impl Windows<'_> {
    /// Operand position of an element of the gathered tensor. Out of range: clamped, or `None`.
    fn position(&self, indices: &Array, at: &[usize], clamp: bool) -> Option<usize> {
        let batch: Vec<usize> = (0..at.len()).filter(|d| !self.offset_dims.contains(d)).map(|d| at[d]).collect();
        let components = self.start_index_map.len();
        let mut start = vec![0i128; self.operand.len()];
        let base = Shape::from(&indices.ty.shape[..indices.ty.shape.len() - 1]).ravel(&batch) * components;
        for (k, &d) in self.start_index_map.iter().enumerate() {
            let highest = self.operand[d] as i128 - self.sizes[d] as i128;
            let wanted = indices.at(base + k) as i128;
            if !clamp && !(0..=highest).contains(&wanted) {
                return None;
            }
            start[d] = wanted.clamp(0, highest.max(0));
        }
        let mut index: Vec<usize> = start.iter().map(|&s| s as usize).collect();
        self.window_dims.iter().zip(self.offset_dims).for_each(|(&d, &o)| index[d] += at[o]);
        Some(self.operand.ravel(&index))
    }
}

fn uncollapsed(rank: usize, collapsed: &[usize]) -> Vec<usize> {
    (0..rank).filter(|d| !collapsed.contains(d)).collect()
}

fn check_indices(indices: &Type, map: &[usize], rank: usize) -> Result<(), String> {
    distinct_dims("indexed", map, rank)?;
    if !indices.dtype.is_int() {
        return Err(format!("indices must be integers, got {indices}; convert them"));
    }
    match indices.shape.last() {
        Some(&k) if k == map.len() => Ok(()),
        _ => Err(format!("the last dimension of the indices must hold {} components, got {}", map.len(), indices.shape)),
    }
}

/// Indices in a type that plugins compute with.
fn index_vectors(w: &mut Writer, indices: &Value) -> Value {
    if indices.ty.dtype == DType::U8 { w.convert(indices, DType::I32) } else { indices.clone() }
}

impl Primitive for Gather {
    fn name(&self) -> &'static str {
        "gather"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>, String> {
        arity(inputs, 2)?;
        let (x, indices) = (&inputs[0], &inputs[1]);
        let rank = x.shape.len();
        check_indices(indices, &self.start_index_map, rank)?;
        distinct_dims("collapsed", &self.collapsed_dims, rank)?;
        let fits =
            |d: usize| self.slice_sizes[d] <= x.shape[d] && (self.slice_sizes[d] == 1 || !self.collapsed_dims.contains(&d));
        if self.slice_sizes.len() != rank || !(0..rank).all(fits) {
            return Err(format!("windows of {} do not fit into {}", Shape::from(&self.slice_sizes[..]), x.shape));
        }
        let window = uncollapsed(rank, &self.collapsed_dims);
        let result_rank = indices.shape.len() - 1 + window.len();
        distinct_dims("offset", &self.offset_dims, result_rank)?;
        if self.offset_dims.len() != window.len() {
            return Err(format!("{} offset dimensions for windows of {} dimensions", self.offset_dims.len(), window.len()));
        }
        let mut batch = indices.shape.iter();
        let mut extents = window.iter().map(|&d| self.slice_sizes[d]);
        let extent = |d| if self.offset_dims.contains(&d) { extents.next() } else { batch.next().copied() }.unwrap_or_default();
        Ok(vec![Type::new(x.dtype, (0..result_rank).map(extent).collect::<Shape>())])
    }

    fn reference(&self, inputs: &[&Array], outputs: &[Type]) -> Vec<Array> {
        let windows = Windows {
            operand: &inputs[0].ty.shape,
            window_dims: uncollapsed(self.slice_sizes.len(), &self.collapsed_dims),
            offset_dims: &self.offset_dims,
            start_index_map: &self.start_index_map,
            sizes: self.slice_sizes.clone(),
        };
        vec![inputs[0].pick(&outputs[0], |out| windows.position(inputs[1], out, true).unwrap_or(0))]
    }

    fn vjp<'g>(&self, cx: &Vjp<'g>) -> Derivative<'g> {
        let (x, indices) = (cx.inputs[0], cx.inputs[1]);
        let zeros = x.builder().zeros(x.ty());
        let clamped = clamp_indices(indices, &x.shape(), &self.slice_sizes, &self.start_index_map);
        let scatter = ScatterAdd {
            update_window_dims: self.offset_dims.clone(),
            inserted_window_dims: self.collapsed_dims.clone(),
            scatter_dims: self.start_index_map.clone(),
        };
        Derivative::Rule(vec![Some(zeros.scatter_add(clamped, cx.ct(), scatter)), None])
    }

    fn cost(&self, inputs: &[Type], outputs: &[Type]) -> Cost {
        Cost::movement(&inputs[1..], &[outputs, outputs].concat())
    }

    fn stablehlo(&self, w: &mut Writer, inputs: &[Value], outputs: &[Type]) -> Vec<Value> {
        let indices = index_vectors(w, &inputs[1]);
        let attributes = [
            format!(
                "dimension_numbers = #stablehlo.gather<offset_dims = {:?}, collapsed_slice_dims = {:?}, start_index_map = {:?}, index_vector_dim = {}>",
                self.offset_dims,
                self.collapsed_dims,
                self.start_index_map,
                indices.ty.shape.len() - 1
            ),
            Writer::numbers("slice_sizes", &self.slice_sizes),
            "indices_are_sorted = false".into(),
        ];
        vec![w.op("gather", &[&inputs[0], &indices], &attributes.join(", "), &outputs[0])]
    }

    fn samples() -> Vec<Sample> {
        let rows = |table: &[usize], indices: &[usize]| {
            let indices_type = Type::new(DType::I32, [indices, &[1]].concat());
            let op = Gather::rows(&table.into(), indices.len());
            let highest = table[0] as i64 - 1;
            Sample::new(op, vec![(Type::new(DType::F64, table), WIDE), (indices_type, Domain::Integers(0, highest))])
        };
        let general = |op: Gather, x: &[usize], indices: &[usize]| {
            let indices = (Type::new(DType::I32, indices), Domain::Integers(-1, 4));
            Sample::new(op, vec![(Type::new(DType::F64, x), WIDE), indices])
        };
        let gather = |offset: &[usize], collapsed: &[usize], map: &[usize], sizes: &[usize]| Gather {
            offset_dims: offset.to_vec(),
            collapsed_dims: collapsed.to_vec(),
            start_index_map: map.to_vec(),
            slice_sizes: sizes.to_vec(),
        };
        vec![
            rows(&[5, 3], &[4]),
            rows(&[5, 3], &[2, 3]),
            rows(&[7], &[5]),
            rows(&[1, 1], &[1]),
            rows(&[5, 3], &[0]),
            rows(&[4, 2, 3], &[6]),
            general(gather(&[1, 2], &[], &[1, 0], &[2, 3]), &[4, 5], &[3, 2]),
            general(gather(&[0, 2], &[1], &[1], &[3, 1, 2]), &[3, 4, 2], &[5, 1]),
            general(gather(&[], &[0, 1], &[0, 1], &[1, 1]), &[3, 4], &[6, 2]),
        ]
    }
}

const WIDE: Domain = Domain::Uniform(-2.0, 2.0);

/// Index vectors clamped so that windows of the given sizes fit.
fn clamp_indices<'g>(indices: Tensor<'g>, operand: &Shape, sizes: &[usize], map: &[usize]) -> Tensor<'g> {
    let (low, high) = index_bounds(indices, operand, sizes, map);
    low.maximum(indices.minimum(high))
}

fn index_bounds<'g>(indices: Tensor<'g>, operand: &Shape, sizes: &[usize], map: &[usize]) -> (Tensor<'g>, Tensor<'g>) {
    let highest: Vec<f64> = map.iter().map(|&d| operand[d].saturating_sub(sizes[d]) as f64).collect();
    let b = indices.builder();
    let high = match HostTensor::from_f64(indices.dtype(), [highest.len()], &highest) {
        Ok(literal) => b.constant(literal),
        Err(message) => b.fail("gather", &[indices.ty()], message),
    };
    let last = indices.rank().saturating_sub(1);
    (b.zeros(indices.ty()), high.broadcast_in_dim(indices.shape(), &[last]))
}

/// Adds windows of `updates` to the operand at positions given by indices; a window that does not fit is left out. Where windows
/// overlap, additions happen in row-major order of the updates. Operands: x, indices, updates.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct ScatterAdd {
    /// Dimensions of the updates that run over the window; ascending.
    pub update_window_dims: Vec<usize>,
    /// Dimensions of the operand in which a window has extent 1 and which the updates lack; ascending.
    pub inserted_window_dims: Vec<usize>,
    /// For each component of an index vector, the dimension of the operand it indexes.
    pub scatter_dims: Vec<usize>,
}

impl ScatterAdd {
    /// Window extents per dimension of the operand.
    pub fn sizes(&self, rank: usize, updates: &Shape) -> Vec<usize> {
        let mut sizes = vec![1; rank];
        let window = uncollapsed(rank, &self.inserted_window_dims);
        window.iter().zip(&self.update_window_dims).for_each(|(&d, &u)| sizes[d] = updates[u]);
        sizes
    }
}

impl Primitive for ScatterAdd {
    fn name(&self) -> &'static str {
        "scatter_add"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>, String> {
        arity(inputs, 3)?;
        let (x, indices, updates) = (&inputs[0], &inputs[1], &inputs[2]);
        same_dtype(x.dtype, updates.dtype)?;
        if x.dtype == DType::Bool {
            return Err("cannot add bool; convert the operand".into());
        }
        let rank = x.shape.len();
        check_indices(indices, &self.scatter_dims, rank)?;
        distinct_dims("inserted", &self.inserted_window_dims, rank)?;
        distinct_dims("window", &self.update_window_dims, updates.shape.len())?;
        let batch: Shape = updates.shape.without(&self.update_window_dims);
        if self.update_window_dims.len() + self.inserted_window_dims.len() != rank
            || batch[..] != indices.shape[..indices.shape.len() - 1]
        {
            return Err(format!("updates {updates} do not fit indices {indices} and operand {x}"));
        }
        let sizes = self.sizes(rank, &updates.shape);
        if sizes.iter().zip(x.shape.iter()).any(|(w, d)| w > d) && updates.elements() > 0 {
            return Err(format!("windows of {} do not fit into {}", Shape::from(&sizes[..]), x.shape));
        }
        Ok(vec![x.clone()])
    }

    fn reference(&self, inputs: &[&Array], outputs: &[Type]) -> Vec<Array> {
        let rank = outputs[0].shape.len();
        let windows = Windows {
            operand: &outputs[0].shape,
            window_dims: uncollapsed(rank, &self.inserted_window_dims),
            offset_dims: &self.update_window_dims,
            start_index_map: &self.scatter_dims,
            sizes: self.sizes(rank, &inputs[2].ty.shape),
        };
        let mut result = inputs[0].clone();
        for (i, at) in index_space(&inputs[2].ty.shape).iter().enumerate() {
            let target = windows.position(inputs[1], at, false);
            target.iter().for_each(|&t| result.add_element(t, inputs[2], i));
        }
        vec![result]
    }

    fn vjp<'g>(&self, cx: &Vjp<'g>) -> Derivative<'g> {
        let (indices, updates, g) = (cx.inputs[1], cx.inputs[2], cx.ct());
        let to_updates = cx.wanted[2].then(|| {
            let shape = updates.shape();
            let sizes = self.sizes(g.rank(), &shape);
            let gather = Gather {
                offset_dims: self.update_window_dims.clone(),
                collapsed_dims: self.inserted_window_dims.clone(),
                start_index_map: self.scatter_dims.clone(),
                slice_sizes: sizes.clone(),
            };
            let read = g.gather(indices, gather);
            let (low, high) = index_bounds(indices, &g.shape(), &sizes, &self.scatter_dims);
            let inside = indices.greater_equal(low) & indices.less_equal(high);
            let last = indices.rank() - 1;
            let batch: Vec<usize> = uncollapsed(shape.len(), &self.update_window_dims);
            let fits = inside.min(&[last]).broadcast_in_dim(shape, &batch);
            fits.select(read, g.builder().zeros(updates.ty()))
        });
        Derivative::Rule(vec![Some(g), None, to_updates])
    }

    fn cost(&self, inputs: &[Type], _: &[Type]) -> Cost {
        Cost { flops: inputs[2].elements() as u64, bytes: Cost::traffic(&inputs[1..], &inputs[2..]) }
    }

    fn stablehlo(&self, w: &mut Writer, inputs: &[Value], _: &[Type]) -> Vec<Value> {
        let indices = index_vectors(w, &inputs[1]);
        let numbers = format!(
            "update_window_dims = {:?}, inserted_window_dims = {:?}, scatter_dims_to_operand_dims = {:?}, index_vector_dim = {}",
            self.update_window_dims,
            self.inserted_window_dims,
            self.scatter_dims,
            indices.ty.shape.len() - 1
        );
        vec![w.scatter_add(&inputs[0], &indices, &inputs[2], &numbers, false)]
    }

    fn samples() -> Vec<Sample> {
        let from_gather = |s: Sample| match s.op {
            super::Op::Gather(op) => {
                let types: Vec<Type> = s.inputs.iter().map(|i| i.0.clone()).collect();
                let updates = op.infer(&types).ok()?.remove(0);
                let scatter = ScatterAdd {
                    update_window_dims: op.offset_dims,
                    inserted_window_dims: op.collapsed_dims,
                    scatter_dims: op.start_index_map,
                };
                let mut inputs = s.inputs;
                inputs.push((updates, WIDE));
                Some(Sample::new(scatter, inputs))
            }
            _ => None,
        };
        Gather::samples().into_iter().filter_map(from_gather).collect()
    }
}
