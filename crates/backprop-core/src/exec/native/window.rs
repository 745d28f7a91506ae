//! Kernels of sliding windows.

use crate::{
    Type,
    op::{Op, Reducer, Window},
};
use backprop_kernels::{
    Isa, Kernel, Reduction,
    gemm::Epilogue,
    window::{ReduceWindow, SelectAndGather, SelectAndScatter, WindowSpec},
};
use std::sync::Arc;

/// The kernel of a window primitive over an operand of type `ty`, if there is one. Selection is of the maximum: lowering negates
/// the operand where the minimum is wanted.
pub(crate) fn kernel(op: &Op, ty: &Type, isa: Isa) -> Option<Box<dyn Kernel>> {
    match op {
        Op::ReduceWindow(r) => {
            let kernel = ReduceWindow::new(&spec(&r.window, ty), reduction(r.reducer), ty.dtype, isa)?;
            Some(Box::new(kernel))
        }
        Op::SelectAndScatter(_) => scatter(op, ty, None, isa),
        Op::SelectAndGather(s) => Some(Box::new(SelectAndGather::new(&spec(&s.window, ty), ty.dtype, isa)?)),
        _ => None,
    }
}

/// The kernel that scatters what windows selected, if `op` does and there is one; the epilogue takes its output tiles.
pub(crate) fn scatter(op: &Op, ty: &Type, epilogue: Option<Arc<dyn Epilogue>>, isa: Isa) -> Option<Box<dyn Kernel>> {
    let Op::SelectAndScatter(s) = op else { return None };
    Some(Box::new(SelectAndScatter::new(&spec(&s.window, ty), ty.dtype, epilogue, isa)?))
}

/// Batch, rows and columns of the output of a window primitive as an epilogue sees it, if it takes one.
pub(crate) fn tile(op: &Op, ty: &Type) -> Option<[usize; 3]> {
    let Op::SelectAndScatter(s) = op else { return None };
    SelectAndScatter::tile(&spec(&s.window, ty), ty.dtype)
}

/// The kernels' name for a reduction.
pub(crate) fn reduction(reducer: Reducer) -> Reduction {
    match reducer {
        Reducer::Sum => Reduction::Sum,
        Reducer::Max => Reduction::Max,
        Reducer::Min => Reduction::Min,
    }
}

fn spec(window: &Window, operand: &Type) -> WindowSpec {
    WindowSpec {
        input: operand.shape.to_vec(),
        window: window.size.clone(),
        strides: window.stride.clone(),
        base_dilation: window.base_dilation.clone(),
        window_dilation: window.window_dilation.clone(),
        padding: window.padding.iter().map(|&(low, high)| [low, high]).collect(),
    }
}
