//! Convolutions of any rank, stride, dilation and grouping.
//!
//! A convolution is a product of the input's patches with the weights; the patches are gathered panel by panel inside the
//! product's blocks and never stored. So it has the product's order of sums: chunks of constant length over (window position,
//! channel), each one chain of fused multiply-adds. Windows of 3 × 3 over many channels take Winograd's algorithm.

mod chains;
mod depthwise;
mod depthwise_gradient;
mod generic;
mod gradient;
mod indirect;
mod lines;
mod micro;
#[cfg(target_arch = "x86_64")]
mod micro_x86;
mod pad;
mod patches;
mod reach;
mod slide;
mod spec;
mod staged;
mod terms;
mod transforms;
mod weights;
mod winograd;
mod winograd_gradient;
#[cfg(target_arch = "x86_64")]
mod winograd_x86;

use std::sync::Arc;

use crate::gemm::Epilogue;
use crate::gemm::driver::{Driver, Mode, Side};
use crate::gemm::finish::{Logical, Output};
use crate::gemm::micro::Micro;
use crate::gemm::parts::{Parts, Phased};
use crate::gemm::plan::Extents;
use crate::gemm::source::{Matrix, Runs, Source, Strided};
use crate::{Isa, Kernel};

use depthwise::Depthwise;
use depthwise_gradient::DepthwiseGradient;
pub use generic::ConvGeneric;
use gradient::Gradient;
use indirect::Indirect;
use patches::{InputDim, MAX_SPATIAL, Patches, RowDim};
pub use spec::{ConvDim, ConvSpec};
use spec::{Groups, Phase, phases};
use staged::{Staged, dense};
use terms::Dim;
use winograd::Winograd;
use winograd_gradient::WinogradGradient;

/// An f32 convolution. Operands: lhs, rhs, the epilogue's inputs, outputs.
///
/// Without an epilogue there is one output, which must overlap no other operand. An epilogue sees batch 0, rows numbered
/// row-major over (batch, space) and columns that are the features of all groups; the output strides of the spec are then not
/// used.
pub struct Conv {
    kernel: Box<dyn Kernel>,
}

impl Conv {
    /// Plans a convolution; `None` for more than four spatial dimensions.
    pub fn new(spec: &ConvSpec, epilogue: Option<Arc<dyn Epilogue>>, isa: Isa) -> Option<Conv> {
        Conv::repeated(spec, epilogue, isa, 1)
    }

    /// Plans a convolution that will run so often with the same rhs and other lhs: see [`Kernel::shared_stages`].
    pub fn repeated(spec: &ConvSpec, epilogue: Option<Arc<dyn Epilogue>>, isa: Isa, runs: usize) -> Option<Conv> {
        if spec.spatial.len() > MAX_SPATIAL {
            return None;
        }
        let whole = Phase { runs, ..Phase::whole(spec) };
        let plans = |phases: &[Phase], epilogue: Option<Arc<dyn Epilogue>>| {
            Parts::new(phases.iter().map(|phase| plan(phase, epilogue.clone(), isa)).collect())
        };
        let kernel: Box<dyn Kernel> = if let Some(kernel) = depthwise(&whole, &epilogue, isa) {
            Box::new(Parts::new(vec![kernel]))
        } else {
            match (phases(whole), epilogue) {
                (all, Some(epilogue)) if all.len() > 1 => {
                    let phases = plans(&phases(Phase { runs, ..Phase::whole(&dense(spec)) }), None);
                    let rows = spec.positions();
                    Box::new(Staged { phases, epilogue, rows, features: spec.features })
                }
                (all, epilogue) => Box::new(plans(&all, epilogue)),
            }
        };
        Some(Conv { kernel })
    }
}

/// Fewer groups than this leave most of a vector idle.
const MIN_GROUPS: usize = 4;

/// The kernel for groups of one channel and one feature whose inputs are adjacent.
fn depthwise(phase: &Phase, epilogue: &Option<Arc<dyn Epilogue>>, isa: Isa) -> Option<Box<dyn Phased>> {
    let (spec, groups) = (&phase.spec, phase.groups);
    let single = spec.channels == 1 && groups.features == 1 && groups.lhs == 1;
    if !single || groups.count < MIN_GROUPS {
        return None;
    }
    // Here the groups are the columns of one product.
    let out = output(phase, &rows(phase, false));
    let logical = Logical { cols_of_batch: None, ..out.logical };
    let out = Output { col: out.batch, batch: Strided::default(), logical, ..out };
    let holes = spec.spatial.iter().any(|d| d.lhs_dilation != 1);
    let gradient = !holes && spec.batch == 1 && spec.terms() > spec.positions() && groups.rhs == 1;
    Some(if gradient {
        Box::new(DepthwiseGradient::new(phase, out, epilogue.clone(), isa))
    } else {
        Box::new(Depthwise::new(phase, out, epilogue.clone(), isa)?)
    })
}

/// Channels from which on runs along them are worth an address for each row.
const MIN_CHANNELS: usize = 8;

/// Whether the rows' addresses can be found: there are no holes, and positions fit into 32 bits.
fn can_address(spec: &ConvSpec) -> bool {
    let small = |extent: usize| i32::try_from(extent).is_ok_and(|e| e < i32::MAX / 2);
    spec.spatial.iter().all(|d| d.lhs_dilation == 1 && small(d.input) && small(d.output * d.stride))
}

/// Whether a convolution can read its input in place.
fn indirect(spec: &ConvSpec) -> bool {
    can_address(spec) && spec.lhs_channel == 1 && spec.channels >= MIN_CHANNELS
}

/// One dimension of the rows, with its strides in the input and the output.
struct Row {
    dim: RowDim,
    out: isize,
    logical: isize,
}

fn plan(phase: &Phase, epilogue: Option<Arc<dyn Epilogue>>, isa: Isa) -> Box<dyn Phased> {
    if WinogradGradient::fits(phase) {
        let out = output(phase, &rows(phase, false));
        return Box::new(WinogradGradient::new(phase, out, epilogue, isa));
    }
    if Gradient::fits(phase) {
        return gradient(phase.clone(), epilogue, isa);
    }
    if Winograd::fits(phase) {
        let out = output(phase, &rows(phase, false));
        return Box::new(Winograd::new(phase, out, epilogue, isa));
    }
    let stores_rows = epilogue.is_some() || phase.spec.out_feature == 1;
    if stores_rows && is_narrow(&phase.spec, phase) {
        return narrow(phase.clone(), epilogue, isa);
    }
    let (spec, groups) = (&phase.spec, phase.groups);
    let rows = rows(phase, epilogue.is_none());
    let out = output(phase, &rows);
    let swap = epilogue.is_none() && spec.out_feature != 1 && rows.iter().any(|r| r.out == 1);
    if !swap && indirect(spec) {
        return Box::new(Indirect::new(phase, patches(spec, groups, &rows, isa), None, out, epilogue, isa));
    }
    let (positions, features) = (spec.positions(), groups.features);
    // Many terms for few outputs: packing rhs ahead would only move a large operand twice.
    let weights_mode = if spec.terms() > 2 * (positions * phase.runs).max(8 * features) { Mode::Private } else { Mode::Shared };
    let weights = Side { source: weights(phase, groups, isa), operand: 1, mode: weights_mode };
    let patches = Side { source: source(spec, groups, &rows, isa), operand: 0, mode: Mode::Private };
    let x = phase.extents();
    let micro = Micro::of(isa);
    Box::new(if swap {
        let out = Output { row: out.col, col: out.row, ..out };
        Driver::new(Extents { m: x.n, n: x.m, ..x }, micro, weights, patches, out, epilogue)
    } else {
        Driver::new(x, micro, patches, weights, out, epilogue)
    })
}

/// A weight gradient. Where the rows of one tap are few, those of adjacent taps are taken together.
fn gradient(mut phase: Phase, epilogue: Option<Arc<dyn Epilogue>>, isa: Isa) -> Box<dyn Phased> {
    let spec = &phase.spec;
    let inner = spec.spatial.last().copied().unwrap_or(ConvDim::UNIT);
    let merged = spec.batch < MIN_CHANNELS
        && phase.groups.count == 1
        && inner.output > 1
        && inner.stride == 1
        && inner.lhs == spec.batch as isize
        && spec.batch * inner.output <= MAX_MERGED;
    let batches = spec.batch;
    let pad = if merged { pad::pad(&mut phase, batches, false) } else { None };
    let mut rows = rows(&phase, false);
    if merged {
        rows.rotate_left(1);
    }
    let out = output(&phase, &rows);
    Box::new(Gradient::new(&phase, pad, merged, out, epilogue, isa))
}

/// Most elements of an input's innermost dimension and its channels that are taken together.
const MAX_MERGED: usize = 64;

/// Whether the few channels of the innermost window positions lie side by side.
fn is_narrow(spec: &ConvSpec, phase: &Phase) -> bool {
    let Some(inner) = spec.spatial.last() else { return false };
    let adjacent = spec.lhs_channel == 1 || spec.channels == 1;
    adjacent
        && (1..MIN_CHANNELS).contains(&spec.channels)
        && phase.groups.count == 1
        && inner.window > 1
        && inner.rhs_dilation == 1
        && inner.lhs == spec.channels as isize
        && spec.channels * inner.window <= MAX_MERGED
        && can_address(spec)
}

/// A convolution whose runs of terms go over the innermost window positions and their channels.
fn narrow(mut phase: Phase, epilogue: Option<Arc<dyn Epilogue>>, isa: Isa) -> Box<dyn Phased> {
    let channels = phase.spec.channels;
    let pad = pad::pad(&mut phase, channels, true);
    let rows = rows(&phase, false);
    let mut merged = phase.spec.clone();
    if let Some(inner) = merged.spatial.last_mut() {
        merged.channels *= std::mem::replace(&mut inner.window, 1);
    }
    let patches = patches(&merged, phase.groups, &rows, isa);
    let out = output(&phase, &rows);
    Box::new(Indirect::new(&phase, patches, pad, out, epilogue, isa))
}

/// Where the outputs of the rows go.
fn output(phase: &Phase, rows: &[Row]) -> Output {
    let (spec, groups) = (&phase.spec, phase.groups);
    let all = phase.batch_rows * spec.batch == spec.positions() && rows.first().is_none_or(|r| r.dim.spatial.is_none());
    let logical = Strided::new(rows.iter().map(|r| (r.dim.extent, r.logical)));
    Output {
        offset: phase.out,
        batch: Strided::new([(groups.count, groups.out)]),
        row: Strided::new(rows.iter().map(|r| (r.dim.extent, r.out))),
        col: Strided::new([(groups.features, spec.out_feature)]),
        logical: Logical { cols_of_batch: Some(groups.features), row: (!all).then_some((phase.first_row, logical)) },
    }
}

/// The dimensions of the output positions. The order is free where nobody counts rows: then adjacent rows read adjacent
/// elements.
fn rows(phase: &Phase, free: bool) -> Vec<Row> {
    let spec = &phase.spec;
    let mut rows = vec![Row {
        dim: RowDim { extent: spec.batch, offset: spec.lhs_batch, spatial: None },
        out: spec.out_batch,
        logical: phase.batch_rows as isize,
    }];
    for (d, dim) in spec.spatial.iter().enumerate() {
        rows.push(Row {
            dim: RowDim { extent: dim.output, offset: dim.stride as isize * dim.lhs, spatial: Some((d, dim.stride as isize)) },
            out: dim.out,
            logical: phase.row_strides[d],
        });
    }
    if free {
        rows.retain(|r| r.dim.extent != 1);
        rows.sort_by_key(|r| std::cmp::Reverse(r.dim.offset.unsigned_abs()));
    }
    rows
}

/// The columns of the product: one per feature.
fn weights(phase: &Phase, groups: Groups, isa: Isa) -> Box<dyn Source> {
    let spec = &phase.spec;
    let window = || spec.spatial.iter().map(|d| (d.window, d.rhs));
    let terms = Strided::new(window().chain([(spec.channels, spec.rhs_channel)]));
    let positions: usize = spec.spatial.iter().map(|d| d.window).product();
    let starts = Strided::new(window());
    let runs = match terms.uniform() {
        Some(step) => Runs::One(step),
        None => {
            Runs::Many { starts: (0..positions).map(|w| starts.offset(w)).collect(), len: spec.channels, step: spec.rhs_channel }
        }
    };
    Box::new(Matrix { offset: phase.rhs, batch: Strided::new([(groups.count, groups.rhs)]), row: spec.rhs_feature, runs, isa })
}

/// The rows of the product: one per output position.
fn source(spec: &ConvSpec, groups: Groups, rows: &[Row], isa: Isa) -> Box<dyn Source> {
    let plain = Strided::new(rows.iter().map(|r| (r.dim.extent, r.dim.offset)));
    if let (true, Some(row)) = (spec.spatial.iter().all(|d| d.is_pointwise()), plain.uniform()) {
        let batch = Strided::new([(groups.count, groups.lhs)]);
        return Box::new(Matrix { offset: 0, batch, row, runs: Runs::One(spec.lhs_channel), isa });
    }
    Box::new(patches(spec, groups, rows, isa))
}

fn patches(spec: &ConvSpec, groups: Groups, rows: &[Row], isa: Isa) -> Patches {
    let holes = spec.spatial.iter().any(|d| d.lhs_dilation != 1);
    let bounded = !holes && Dim::all(spec).iter().all(Dim::is_bounded);
    let input = |d: &ConvDim| InputDim { extent: d.input, stride: d.lhs, dilation: d.lhs_dilation as isize, origin: -d.pad_low };
    Patches {
        groups: Strided::new([(groups.count, groups.lhs)]),
        rows: rows.iter().map(|r| r.dim).collect(),
        input: spec.spatial.iter().map(input).collect(),
        window: spec.spatial.iter().map(|d| (d.window, d.rhs_dilation as isize)).collect(),
        channels: spec.channels,
        channel: spec.lhs_channel,
        bounded,
        isa,
    }
}

impl Kernel for Conv {
    fn stages(&self) -> usize {
        self.kernel.stages()
    }

    fn tasks(&self, stage: usize) -> usize {
        self.kernel.tasks(stage)
    }

    fn shared_stages(&self) -> usize {
        self.kernel.shared_stages()
    }

    fn sum_parts(&self) -> usize {
        self.kernel.sum_parts()
    }

    fn workspace(&self) -> usize {
        self.kernel.workspace()
    }

    fn scratch(&self) -> usize {
        self.kernel.scratch()
    }

    unsafe fn run(&self, stage: usize, task: usize, operands: &[*mut u8], workspace: *mut u8, scratch: *mut u8) {
        // SAFETY: as the caller vouches.
        unsafe { self.kernel.run(stage, task, operands, workspace, scratch) }
    }
}
