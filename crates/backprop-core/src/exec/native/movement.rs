//! Kernels of the primitives that move elements, and of windows.

use super::{
    ir::{Access, Def, Lowered, Node},
    unit::missing,
    view::row_major,
};
use crate::{DType, Error, op::Op};
use backprop_kernels::{
    Isa, Kernel,
    movement::{
        CopyPart, DynamicSlice, DynamicUpdateSlice, FillValue, Gather, GatherSpec, RowSums, ScatterAdd, ScatterSpec, StridedCopy,
    },
};

/// A kernel and what it reads, in the order of its operands.
type Planned = (Box<dyn Kernel>, Vec<Access>);

fn dtype(graph: &Lowered, access: &Access) -> DType {
    graph.values[access.value].ty.dtype
}

/// A dense copy of a view of something in memory.
pub(crate) fn copy(graph: &Lowered, access: &Access) -> Option<Planned> {
    let view = &access.view;
    let dtype = dtype(graph, access);
    match graph.values[access.value].def {
        Def::Iota => None,
        Def::Scalar(bits) => Some((Box::new(StridedCopy::fill(dtype, view.elements(), bits)), Vec::new())),
        // The offset is part of the operand's address.
        _ => Some((Box::new(StridedCopy::view(dtype, &view.shape, &view.strides, 0)), vec![access.clone()])),
    }
}

/// The kernel of a primitive with dense operands.
pub(crate) fn kernel(graph: &Lowered, op: &Op, node: &Node, isa: Isa) -> Result<Planned, Error> {
    let inputs = node.inputs.clone();
    let ty = graph.read_type(&inputs[0]);
    let shape = |i: usize| node.inputs[i].view.shape.clone();
    let kind = |i: usize| dtype(graph, &node.inputs[i]);
    let output = &graph.values[node.outputs[0]].ty.shape;
    let made: Option<Box<dyn Kernel>> = match op {
        Op::Concatenate(concatenate) => return Ok((joined(graph, &inputs, concatenate.dim, output), inputs)),
        Op::Pad(pad) => return Ok(padded(graph, inputs, pad, output)),
        Op::DynamicSlice(slice) => {
            DynamicSlice::new(&ty.shape, &slice.sizes, ty.dtype, start_type(&kind, 1, inputs.len())).map(boxed)
        }
        Op::DynamicUpdateSlice(_) => {
            DynamicUpdateSlice::new(&ty.shape, &shape(1), ty.dtype, start_type(&kind, 2, inputs.len())).map(boxed)
        }
        Op::Gather(gather) => {
            let spec = GatherSpec {
                operand: shape(0),
                index_vector_dim: shape(1).len() - 1,
                indices: shape(1),
                offset_dims: gather.offset_dims.clone(),
                collapsed_slice_dims: gather.collapsed_dims.clone(),
                start_index_map: gather.start_index_map.clone(),
                slice_sizes: gather.slice_sizes.clone(),
            };
            Gather::new(&spec, ty.dtype, kind(1)).map(boxed)
        }
        Op::ScatterAdd(scatter) => {
            let spec = ScatterSpec {
                operand: shape(0),
                index_vector_dim: shape(1).len() - 1,
                indices: shape(1),
                updates: shape(2),
                update_window_dims: scatter.update_window_dims.clone(),
                inserted_window_dims: scatter.inserted_window_dims.clone(),
                scatter_dims_to_operand_dims: scatter.scatter_dims.clone(),
            };
            ScatterAdd::new(&spec, ty.dtype, kind(1)).map(boxed)
        }
        _ => super::window::kernel(op, &ty, isa),
    };
    Ok((made.ok_or_else(|| missing(op.name(), ty.dtype))?, inputs))
}

/// The kernel that sums the updates of each row of a table.
pub(crate) fn row_sums(graph: &Lowered, rows: usize, node: &Node) -> Result<Box<dyn Kernel>, Error> {
    let (index, sums) = (dtype(graph, &node.inputs[0]), &graph.values[node.outputs[1]].ty.shape);
    RowSums::new([rows, sums[1], sums[0]], index).map(boxed).ok_or_else(|| missing("row_sums", index))
}

fn boxed<K: Kernel + 'static>(kernel: K) -> Box<dyn Kernel> {
    Box::new(kernel)
}

/// The type of the start indices, which lowering made one; without any, whichever.
fn start_type(kind: &dyn Fn(usize) -> DType, first: usize, operands: usize) -> DType {
    if first < operands { kind(first) } else { DType::I32 }
}

fn joined(graph: &Lowered, inputs: &[Access], dim: usize, output: &[usize]) -> Box<dyn Kernel> {
    let target = row_major(output);
    let mut before = 0;
    let mut part = |(source, access): (usize, &Access)| {
        let target_offset = before as isize * target[dim];
        before += access.view.shape[dim];
        CopyPart {
            source,
            dims: access.view.shape.clone(),
            source_strides: access.view.strides.clone(),
            source_offset: 0,
            target_strides: target.clone(),
            target_offset,
        }
    };
    let parts = inputs.iter().enumerate().map(&mut part).collect();
    Box::new(StridedCopy::new(dtype(graph, &inputs[0]), inputs.len(), output.iter().product(), parts, None))
}

fn padded(graph: &Lowered, mut inputs: Vec<Access>, pad: &crate::op::Pad, output: &[usize]) -> Planned {
    let target = row_major(output);
    let view = &inputs[0].view;
    let mut part = CopyPart {
        source: 0,
        dims: Vec::new(),
        source_strides: view.strides.clone(),
        source_offset: 0,
        target_strides: Vec::new(),
        target_offset: 0,
    };
    for d in 0..output.len() {
        let step = pad.interior[d] as isize + 1;
        // Elements before the first or after the last visible position are cut off.
        let first = ((-pad.low[d]).max(0) + step - 1) / step;
        let last = (output[d] as isize - 1 - pad.low[d]).div_euclid(step).min(view.shape[d] as isize - 1);
        part.dims.push((last - first + 1).max(0) as usize);
        part.source_offset += first * view.strides[d];
        part.target_offset += (pad.low[d] + first * step) * target[d];
        part.target_strides.push(step * target[d]);
    }
    let fill = match graph.values[inputs[1].value].def {
        Def::Scalar(bits) => {
            inputs.pop();
            FillValue::Bits(bits)
        }
        _ => FillValue::Operand(1),
    };
    let kind = dtype(graph, &inputs[0]);
    let kernel = StridedCopy::new(kind, inputs.len(), output.iter().product(), vec![part], Some(fill));
    (Box::new(kernel), inputs)
}
