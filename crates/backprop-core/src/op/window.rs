//! Sliding windows: pooling, and the scatter and gather that are its derivatives.

use super::{
    Cost, Derivative, Domain, Primitive, Reducer, Sample, Vjp,
    arg_reduce::first_extremum,
    arity,
    convolution::{dilate, window_positions},
    same_dtype,
};
use crate::{
    DType, Shape, Type,
    reference::{Array, index_space},
    stablehlo::{Region, Value, Writer},
};
use serde::{Deserialize, Serialize};

/// Windows over a tensor, one entry per dimension (size and stride 1 where nothing slides).
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Window {
    /// Extent of the window.
    pub size: Vec<usize>,
    /// Step between windows.
    pub stride: Vec<usize>,
    /// Identity elements before and after; may be negative.
    pub padding: Vec<(isize, isize)>,
    /// Gaps between the operand's elements, filled with identity elements.
    pub base_dilation: Vec<usize>,
    /// Gaps between the window's elements.
    pub window_dilation: Vec<usize>,
}

impl Window {
    /// Windows of a size with stride 1, no padding, no dilation.
    pub fn new(size: impl Into<Vec<usize>>) -> Window {
        let size = size.into();
        let n = size.len();
        Window { stride: vec![1; n], padding: vec![(0, 0); n], base_dilation: vec![1; n], window_dilation: vec![1; n], size }
    }

    /// The shape of the windows' results.
    ///
    /// # Errors
    /// If the lists do not fit the operand.
    pub fn result(&self, operand: &Shape) -> Result<Shape, String> {
        let n = operand.len();
        let lists = [&self.size, &self.stride, &self.base_dilation, &self.window_dilation];
        if lists.iter().any(|l| l.len() != n || l.contains(&0)) || self.padding.len() != n {
            return Err(format!("window sizes, strides, padding and dilations must be given for {n} dimensions and be positive"));
        }
        let extent = |d: usize| dilate(operand[d], self.base_dilation[d]) + self.padding[d].0 + self.padding[d].1;
        let positions = |d| window_positions(extent(d), dilate(self.size[d], self.window_dilation[d]), self.stride[d]);
        Ok((0..n).map(positions).collect())
    }

    /// Positions of the operand's elements under the window of an output position, in row-major order of the window.
    pub(crate) fn positions(&self, operand: &Shape, out: &[usize], taps: &[Vec<usize>]) -> Vec<usize> {
        let at = |tap: &Vec<usize>| {
            let mut index = vec![0; out.len()];
            for d in 0..out.len() {
                let p = (out[d] * self.stride[d] + tap[d] * self.window_dilation[d]) as isize - self.padding[d].0;
                let gap = self.base_dilation[d] as isize;
                if p < 0 || p % gap != 0 || p / gap >= operand[d] as isize {
                    return None;
                }
                index[d] = (p / gap) as usize;
            }
            Some(operand.ravel(&index))
        };
        taps.iter().filter_map(at).collect()
    }

    /// Whether windows lie side by side on the operand itself, so that each element is in one window at most.
    fn tiles(&self) -> bool {
        let plain = self.window_dilation.iter().chain(&self.base_dilation).all(|&d| d == 1);
        plain && self.stride == self.size && self.padding.iter().all(|&p| p == (0, 0))
    }

    /// Whether the windows of a dimension are its elements.
    pub(crate) fn keeps(&self, dim: usize) -> bool {
        (self.size[dim], self.stride[dim], self.padding[dim], self.base_dilation[dim]) == (1, 1, (0, 0), 1)
    }

    /// Whether no two windows share an element.
    fn disjoint(&self) -> bool {
        let extents = self.size.iter().zip(&self.window_dilation).map(|(&size, &dilation)| dilate(size, dilation));
        extents.zip(&self.stride).all(|(extent, &stride)| extent <= stride as isize)
    }

    /// StableHLO's `reduce_window` of operands of one shape from the values of empty windows.
    fn reduce(&self, w: &mut Writer, operands: &[&Value], start: &[Value], result: &Shape, combine: Region<'_>) -> Vec<Value> {
        // Plugins do not agree on negative padding, nor on dilation of several operands.
        let plain = self.padding.iter().all(|p| p.0 >= 0 && p.1 >= 0) && self.base_dilation.iter().all(|&d| d == 1);
        if !plain {
            let padded: Vec<Value> = operands.iter().zip(start).map(|(x, fill)| self.pad(w, x, fill)).collect();
            let padding = vec![(0, 0); self.size.len()];
            let inner = Window { padding, base_dilation: vec![1; self.size.len()], ..self.clone() };
            return inner.reduce(w, &padded.iter().collect::<Vec<_>>(), start, result, combine);
        }
        let attributes = [
            Writer::numbers("window_dimensions", &self.size),
            Writer::numbers("window_strides", &self.stride),
            Writer::numbers("base_dilations", &self.base_dilation),
            Writer::numbers("window_dilations", &self.window_dilation),
            Writer::padding(&self.padding),
        ];
        let results: Vec<Type> = operands.iter().map(|x| Type::new(x.ty.dtype, result)).collect();
        let scalars = start.iter().map(|s| s.ty.clone());
        let arguments: Vec<Type> = scalars.clone().chain(scalars).collect();
        let all: Vec<&Value> = operands.iter().copied().chain(start).collect();
        w.regions("reduce_window", &all, &attributes.join(", "), &results, &mut [(arguments, combine)])
    }

    /// The operand with the gaps and edges of these windows.
    fn pad(&self, w: &mut Writer, x: &Value, fill: &Value) -> Value {
        let (low, high): (Vec<isize>, Vec<isize>) = self.padding.iter().copied().unzip();
        let interior: Vec<usize> = self.base_dilation.iter().map(|d| d - 1).collect();
        let extent = |d: usize| dilate(x.ty.shape[d], self.base_dilation[d]) + low[d] + high[d];
        let shape: Shape = (0..low.len()).map(|d| extent(d).max(0) as usize).collect();
        w.pad(x, fill, [&low, &high], &interior, &Type::new(x.ty.dtype, shape))
    }

    /// The window whose sum-reduction is the transpose of this one's, for an operand of the given shape.
    fn transposed(&self, operand: &Shape, result: &Shape) -> Window {
        let padding = (0..operand.len()).map(|d| {
            let window = dilate(self.size[d], self.window_dilation[d]);
            let before = window - self.padding[d].0 - 1;
            let input = dilate(operand[d], self.base_dilation[d]);
            (before, input + window - 1 - dilate(result[d], self.stride[d]) - before)
        });
        Window {
            padding: padding.collect(),
            stride: self.base_dilation.clone(),
            base_dilation: self.stride.clone(),
            ..self.clone()
        }
    }
}

/// Combines the elements of each window: pooling. Empty windows give the reducer's identity.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct ReduceWindow {
    /// How elements are combined.
    pub reducer: Reducer,
    /// The windows.
    pub window: Window,
}

impl Primitive for ReduceWindow {
    fn name(&self) -> &'static str {
        "reduce_window"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>, String> {
        arity(inputs, 1)?;
        if inputs[0].dtype == DType::Bool && self.reducer == Reducer::Sum {
            return Err("sums of bool are not defined; convert the operand".into());
        }
        Ok(vec![Type::new(inputs[0].dtype, self.window.result(&inputs[0].shape)?)])
    }

    fn reference(&self, inputs: &[&Array], outputs: &[Type]) -> Vec<Array> {
        let taps = index_space(&self.window.size);
        let positions = |out: &[usize]| self.window.positions(&inputs[0].ty.shape, out, &taps);
        vec![self.reducer.fold_each(&outputs[0], inputs[0], positions)]
    }

    fn vjp<'g>(&self, cx: &Vjp<'g>) -> Derivative<'g> {
        let (x, g) = (cx.inputs[0], cx.ct());
        let gradient = match self.reducer {
            Reducer::Sum => {
                let window = self.window.transposed(&x.shape(), &g.shape());
                let op = ReduceWindow { reducer: Reducer::Sum, window };
                g.builder().apply(op, &[g])[0]
            }
            reducer => {
                let op = SelectAndScatter { select: reducer, window: self.window.clone() };
                g.builder().apply(op, &[x, g])[0]
            }
        };
        Derivative::Rule(vec![Some(gradient)])
    }

    fn cost(&self, inputs: &[Type], outputs: &[Type]) -> Cost {
        let taps = Shape::from(&self.window.size[..]).elements();
        Cost { flops: outputs[0].elements().saturating_mul(taps) as u64, bytes: Cost::traffic(inputs, outputs) }
    }

    fn stablehlo(&self, w: &mut Writer, inputs: &[Value], outputs: &[Type]) -> Vec<Value> {
        let dtype = self.reducer.partial(outputs[0].dtype);
        let (x, start) = (w.convert(&inputs[0], dtype), self.reducer.start(w, dtype));
        let mut combine = |w: &mut Writer, v: &[Value]| vec![w.binary(self.reducer.stablehlo(), &v[0], &v[1])];
        let results = self.window.reduce(w, &[&x], &[start], &outputs[0].shape, &mut combine);
        results.iter().map(|sum| w.convert(sum, outputs[0].dtype)).collect()
    }

    fn samples() -> Vec<Sample> {
        let mut all = Vec::new();
        for reducer in [Reducer::Sum, Reducer::Max, Reducer::Min] {
            for (shape, window) in windows() {
                all.push(Sample::f64(ReduceWindow { reducer, window }, &[&shape], Domain::Distinct(-2.0, 2.0)));
            }
        }
        let base_dilated = Window { base_dilation: vec![2], padding: vec![(1, 2)], ..Window::new([3]) };
        all.push(Sample::f64(ReduceWindow { reducer: Reducer::Sum, window: base_dilated }, &[&[5]], Domain::Uniform(-2.0, 2.0)));
        all
    }
}

/// Sample windows in which every window holds at least one element.
fn windows() -> Vec<(Vec<usize>, Window)> {
    let pool = |shape: &[usize], size: &[usize], change: &dyn Fn(&mut Window)| {
        let mut window = Window::new(size);
        change(&mut window);
        (shape.to_vec(), window)
    };
    vec![
        pool(&[7], &[3], &|_| ()),
        pool(&[1], &[1], &|_| ()),
        pool(&[2, 4, 6, 3], &[1, 2, 2, 1], &|w| w.stride = vec![1, 2, 2, 1]),
        pool(&[1, 5, 5, 2], &[1, 3, 3, 1], &|w| {
            (w.stride, w.padding) = (vec![1, 2, 2, 1], vec![(0, 0), (1, 1), (1, 1), (0, 0)]);
        }),
        pool(&[2, 2, 5, 4], &[1, 1, 2, 3], &|w| w.stride = vec![1, 1, 1, 2]),
        pool(&[9], &[3], &|w| (w.window_dilation, w.padding) = (vec![2], vec![(1, 2)])),
        pool(&[6, 5], &[2, 2], &|w| w.padding = vec![(-1, 0), (1, -1)]),
        pool(&[0, 4], &[1, 2], &|_| ()),
        pool(&[3, 2], &[1, 3], &|_| ()),
    ]
}

/// Adds each element of `source` to the selected element of its window over `operand`: the first extremum in row-major order
/// of the window (a NaN counts as one). Operands: operand, source; the result has the operand's type.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct SelectAndScatter {
    /// [`Reducer::Max`] or [`Reducer::Min`].
    pub select: Reducer,
    /// The windows over the operand; they correspond to the elements of the source.
    pub window: Window,
}

/// For each output position, the position selected in its window, if the window holds an element.
fn selected(select: Reducer, window: &Window, operand: &Array, result: &Shape) -> Vec<Option<usize>> {
    let taps = index_space(&window.size);
    let better = |a: f64, b: f64| match select {
        _ if b.is_nan() => false,
        _ if a.is_nan() => true,
        Reducer::Min => a < b,
        _ => a > b,
    };
    let first = |out: Vec<usize>| {
        let positions = window.positions(&operand.ty.shape, &out, &taps);
        positions.into_iter().reduce(|best, p| if better(operand.at(p), operand.at(best)) { p } else { best })
    };
    result.indices().map(first).collect()
}

/// For each window in StableHLO the selected element, its row-major position in the operand, and the element of `values` there.
/// Positions of windows without elements are out of range, and values are 0.
fn select_in_windows(
    w: &mut Writer,
    select: Reducer,
    window: &Window,
    operand: &Value,
    values: Option<&Value>,
    result: &Shape,
) -> Vec<Value> {
    let shape = &operand.ty.shape;
    let (dtype, out_of_range) =
        if shape.elements() < i32::MAX as usize { (DType::I32, i32::MAX.into()) } else { (DType::I64, i64::MAX.into()) };
    let position = positions(w, dtype, shape);
    let mut operands = vec![operand, &position];
    let mut start = vec![select.start(w, operand.ty.dtype), w.integer(dtype, out_of_range)];
    operands.extend(values);
    start.extend(values.map(|x| w.scalar(x.ty.dtype, 0.0)));
    let n = operands.len();
    let mut first = |w: &mut Writer, v: &[Value]| first_extremum(w, select, &v[..n], &v[n..]);
    window.reduce(w, &operands, &start, result, &mut first)
}

/// The row-major position of every element of a shape.
fn positions(w: &mut Writer, dtype: DType, shape: &Shape) -> Value {
    let flat = w.op("iota", &[], "iota_dimension = 0 : i64", &Type::new(dtype, [shape.elements()]));
    w.reshape(&flat, shape)
}

impl SelectAndScatter {
    /// Each element of the operand takes its window's source if it is the selected one: for windows side by side.
    fn spread(&self, w: &mut Writer, selected: &Value, source: &Value, operand: &Value) -> Value {
        let (shape, windows) = (&operand.ty.shape, &source.ty.shape);
        let covered: Shape = windows.iter().zip(&self.window.size).map(|(n, size)| n * size).collect();
        let split: Shape = windows.iter().zip(&self.window.size).flat_map(|(&n, &size)| [n, size]).collect();
        let outer: Vec<usize> = (0..windows.len()).map(|d| 2 * d).collect();
        let (mut position, zero) = (positions(w, selected.ty.dtype, shape), w.scalar(source.ty.dtype, 0.0));
        if covered != *shape {
            let numbers = |name, list: &[usize]| Writer::numbers(name, list);
            let (ones, zeros) = (vec![1; shape.len()], vec![0; shape.len()]);
            let lists = [numbers("start_indices", &zeros), numbers("limit_indices", &covered), numbers("strides", &ones)];
            position = w.op("slice", &[&position], &lists.join(", "), &Type::new(position.ty.dtype, &covered));
        }
        let [selected, source] = [selected, source].map(|v| {
            let repeated = w.broadcast(v, &split, &outer);
            w.reshape(&repeated, &covered)
        });
        let (hit, zeros) = (w.compare("EQ", &position, &selected), w.spread(&zero, &covered));
        let inside = w.select(&hit, &source, &zeros);
        let high: Vec<isize> = shape.iter().zip(covered.iter()).map(|(all, covered)| (all - covered) as isize).collect();
        let none = vec![0; shape.len()];
        w.pad(&inside, &zero, [&vec![0; shape.len()], &high], &none, &operand.ty)
    }

    /// Adds every source to the operand's element at its position.
    fn scatter(&self, w: &mut Writer, selected: &Value, source: &Value, operand: &Value) -> Value {
        let (windows, elements) = (source.ty.elements(), operand.ty.elements());
        let zero = w.scalar(source.ty.dtype, 0.0);
        let zeros = w.spread(&zero, &Shape::from([elements]));
        let (indices, updates) = (w.reshape(selected, &Shape::from([windows, 1])), w.reshape(source, &Shape::from([windows])));
        let numbers =
            "update_window_dims = [], inserted_window_dims = [0], scatter_dims_to_operand_dims = [0], index_vector_dim = 1";
        let sums = w.scatter_add(&zeros, &indices, &updates, numbers, self.window.disjoint());
        w.reshape(&sums, &operand.ty.shape)
    }
}

fn infer_windows(select: Reducer, window: &Window, inputs: &[Type], source: Option<&Type>) -> Result<Shape, String> {
    if select == Reducer::Sum {
        return Err("only max and min select an element".into());
    }
    same_dtype(inputs[0].dtype, inputs[1].dtype)?;
    let result = window.result(&inputs[0].shape)?;
    match source {
        Some(s) if s.shape != result => Err(format!("the windows give shape {result}, but the source has {}", s.shape)),
        _ => Ok(result),
    }
}

impl Primitive for SelectAndScatter {
    fn name(&self) -> &'static str {
        "select_and_scatter"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>, String> {
        arity(inputs, 2)?;
        infer_windows(self.select, &self.window, inputs, Some(&inputs[1]))?;
        Ok(vec![inputs[0].clone()])
    }

    fn reference(&self, inputs: &[&Array], outputs: &[Type]) -> Vec<Array> {
        let mut result = Array::zeros(&outputs[0]);
        let targets = selected(self.select, &self.window, inputs[0], &inputs[1].ty.shape);
        targets.iter().enumerate().for_each(|(i, t)| t.iter().for_each(|&t| result.add_element(t, inputs[1], i)));
        vec![result]
    }

    fn vjp<'g>(&self, cx: &Vjp<'g>) -> Derivative<'g> {
        let op = SelectAndGather { select: self.select, window: self.window.clone() };
        let g = cx.ct();
        // The selection is piecewise constant in the operand.
        Derivative::Rule(vec![None, Some(g.builder().apply(op, &[cx.inputs[0], g])[0])])
    }

    fn cost(&self, inputs: &[Type], outputs: &[Type]) -> Cost {
        let taps = Shape::from(&self.window.size[..]).elements();
        Cost { flops: inputs[1].elements().saturating_mul(taps) as u64, bytes: Cost::traffic(inputs, outputs) }
    }

    fn stablehlo(&self, w: &mut Writer, inputs: &[Value], _: &[Type]) -> Vec<Value> {
        let (operand, source) = (&inputs[0], &inputs[1]);
        let chosen = select_in_windows(w, self.select, &self.window, operand, None, &source.ty.shape);
        vec![if self.window.tiles() {
            self.spread(w, &chosen[1], source, operand)
        } else {
            self.scatter(w, &chosen[1], source, operand)
        }]
    }

    fn samples() -> Vec<Sample> {
        let sample = |select, (shape, window): (Vec<usize>, Window)| {
            let source = window.result(&Shape::from(&shape[..])).unwrap_or_default();
            let operand = |s: &[usize]| (Type::new(DType::F64, s), Domain::Distinct(-2.0, 2.0));
            Sample::new(SelectAndScatter { select, window }, vec![operand(&shape), operand(&source)])
        };
        let both = [Reducer::Max, Reducer::Min];
        both.iter().flat_map(|&r| windows().into_iter().map(move |w| sample(r, w))).collect()
    }
}

/// For each window over `operand`, the element of `values` at the selected position; 0 for a window without elements. The
/// transpose of [`SelectAndScatter`]. Operands: operand, values (of the same type).
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct SelectAndGather {
    /// [`Reducer::Max`] or [`Reducer::Min`].
    pub select: Reducer,
    /// The windows over the operand.
    pub window: Window,
}

impl Primitive for SelectAndGather {
    fn name(&self) -> &'static str {
        "select_and_gather"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>, String> {
        arity(inputs, 2)?;
        if inputs[0].shape != inputs[1].shape {
            return Err(format!("operand and values must have one shape, got {} and {}", inputs[0].shape, inputs[1].shape));
        }
        let shape = infer_windows(self.select, &self.window, inputs, None)?;
        Ok(vec![Type::new(inputs[0].dtype, shape)])
    }

    fn reference(&self, inputs: &[&Array], outputs: &[Type]) -> Vec<Array> {
        let mut result = Array::zeros(&outputs[0]);
        let sources = selected(self.select, &self.window, inputs[0], &outputs[0].shape);
        sources.iter().enumerate().for_each(|(i, s)| s.iter().for_each(|&s| result.copy_element(i, inputs[1], s)));
        vec![result]
    }

    fn vjp<'g>(&self, cx: &Vjp<'g>) -> Derivative<'g> {
        let op = SelectAndScatter { select: self.select, window: self.window.clone() };
        let g = cx.ct();
        Derivative::Rule(vec![None, Some(g.builder().apply(op, &[cx.inputs[0], g])[0])])
    }

    fn cost(&self, inputs: &[Type], outputs: &[Type]) -> Cost {
        let taps = Shape::from(&self.window.size[..]).elements();
        Cost { flops: outputs[0].elements().saturating_mul(taps) as u64, bytes: Cost::traffic(inputs, outputs) }
    }

    fn stablehlo(&self, w: &mut Writer, inputs: &[Value], outputs: &[Type]) -> Vec<Value> {
        let chosen = select_in_windows(w, self.select, &self.window, &inputs[0], Some(&inputs[1]), &outputs[0].shape);
        chosen.into_iter().skip(2).collect()
    }

    fn samples() -> Vec<Sample> {
        let sample = |select, (shape, window): (Vec<usize>, Window)| {
            Sample::f64(SelectAndGather { select, window }, &[&shape, &shape], Domain::Distinct(-2.0, 2.0))
        };
        let both = [Reducer::Max, Reducer::Min];
        both.iter().flat_map(|&r| windows().into_iter().map(move |w| sample(r, w))).collect()
    }
}
