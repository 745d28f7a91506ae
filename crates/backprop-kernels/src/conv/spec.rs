//! What a convolution is: extents, strides, and the phases of a dilated input.

use std::ops::Range;

use crate::gemm::KC;
use crate::gemm::plan::{Extents, SMALL};

/// One spatial dimension of a convolution; strides in elements.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConvDim {
    /// Extent of the input.
    pub input: usize,
    /// Stride of the input.
    pub lhs: isize,
    /// Extent of the window.
    pub window: usize,
    /// Stride of the window.
    pub rhs: isize,
    /// Extent of the output; fixes the padding at the high end.
    pub output: usize,
    /// Stride of the output.
    pub out: isize,
    /// Steps of the window over the dilated, padded input.
    pub stride: usize,
    /// Padding at the low end of the dilated input; negative cuts.
    pub pad_low: isize,
    /// Distance between input elements in the dilated input; 1 for none.
    pub lhs_dilation: usize,
    /// Distance between window elements; 1 for none.
    pub rhs_dilation: usize,
    /// Runs through the window backwards.
    pub reverse: bool,
}

impl ConvDim {
    /// A dimension of one element everywhere, to be changed by struct update.
    pub const UNIT: ConvDim = ConvDim {
        input: 1,
        lhs: 0,
        window: 1,
        rhs: 0,
        output: 1,
        out: 0,
        stride: 1,
        pad_low: 0,
        lhs_dilation: 1,
        rhs_dilation: 1,
        reverse: false,
    };

    /// Whether every output reads exactly the input at the same position times the stride.
    pub(super) fn is_pointwise(&self) -> bool {
        self.window == 1
            && self.pad_low == 0
            && self.lhs_dilation == 1
            && (self.output == 0 || (self.output - 1) * self.stride < self.input)
    }
}

/// A convolution
///
/// out[b, f, o…] = Σ over window positions w… and channels c of lhs[b, c, o·stride + w·rhs_dilation − pad_low] · rhs[f, c, w…],
///
/// where the position counts in the dilated input and only its real elements contribute. As in StableHLO the features are
/// divided into groups: those of feature group g see the channels `g·channels ..`, those of batch group g the batches
/// `g·batch ..` of lhs. At most one of the two counts exceeds one.
///
/// Data and weight gradients are the same formula with other dimensions in the roles of batch, feature and channel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConvSpec {
    /// Batches of the output.
    pub batch: usize,
    /// Stride of lhs between batches.
    pub lhs_batch: isize,
    /// Stride of the output between batches.
    pub out_batch: isize,
    /// Channels each feature sees.
    pub channels: usize,
    /// Stride of lhs between channels.
    pub lhs_channel: isize,
    /// Stride of rhs between channels.
    pub rhs_channel: isize,
    /// Features of the output, all groups together.
    pub features: usize,
    /// Stride of rhs between features.
    pub rhs_feature: isize,
    /// Stride of the output between features.
    pub out_feature: isize,
    /// Groups of channels; at least one, divides `features`.
    pub feature_groups: usize,
    /// Groups of batches; at least one, divides `features`.
    pub batch_groups: usize,
    /// Spatial dimensions, outermost first.
    pub spatial: Vec<ConvDim>,
}

/// Groups as a dimension of their own.
#[derive(Clone, Copy, Debug)]
pub(super) struct Groups {
    pub count: usize,
    /// Features of each.
    pub features: usize,
    pub lhs: isize,
    pub rhs: isize,
    pub out: isize,
}

impl ConvSpec {
    /// Whether sums run over channels outside and window positions inside, as they lie in memory where the window is that of a
    /// weight gradient. It decides the order of terms, so it looks at extents only.
    fn has_large_window(&self) -> bool {
        let of = |pick: fn(&ConvDim) -> usize| self.spatial.iter().map(pick).product::<usize>();
        of(|d| d.window) > of(|d| d.output)
    }

    /// The same convolution with its channels as the outermost spatial dimension.
    fn with_channels_outside(&self) -> ConvSpec {
        let outer = ConvDim {
            input: self.channels,
            lhs: self.lhs_channel,
            window: self.channels,
            rhs: self.rhs_channel,
            ..ConvDim::UNIT
        };
        let spatial = std::iter::once(outer).chain(self.spatial.iter().copied()).collect();
        ConvSpec { channels: 1, lhs_channel: 0, rhs_channel: 0, spatial, ..self.clone() }
    }

    pub(super) fn groups(&self) -> Groups {
        let count = self.feature_groups * self.batch_groups;
        let features = self.features / count;
        let lhs =
            if self.batch_groups > 1 { self.batch as isize * self.lhs_batch } else { self.channels as isize * self.lhs_channel };
        let (rhs, out) = (features as isize * self.rhs_feature, features as isize * self.out_feature);
        Groups { count, features, lhs, rhs, out }
    }

    /// Output positions, over batches and space.
    pub(super) fn positions(&self) -> usize {
        self.batch * self.spatial.iter().map(|d| d.output).product::<usize>()
    }

    /// Terms of each sum.
    pub fn terms(&self) -> usize {
        self.channels * self.spatial.iter().map(|d| d.window).product::<usize>()
    }
}

/// A convolution without reversed windows whose operands start at some offset.
#[derive(Clone, Debug)]
pub(super) struct Phase {
    pub spec: ConvSpec,
    pub groups: Groups,
    pub rhs: isize,
    pub out: isize,
    /// Logical index of the first row and the logical stride of each spatial dimension (rows are row-major (batch, space)).
    pub first_row: usize,
    pub row_strides: Vec<isize>,
    /// Logical rows of a batch.
    pub batch_rows: usize,
    /// How often it runs with the same rhs and other lhs.
    pub runs: usize,
    /// Samples, where it is a weight gradient that may sum over one after the other.
    pub samples: Option<usize>,
}

impl Phase {
    /// All outputs at once.
    pub fn whole(spec: &ConvSpec) -> Phase {
        let groups = spec.groups();
        let samples = (spec.has_large_window() && spec.spatial.iter().all(|d| d.lhs_dilation == 1)).then_some(spec.channels);
        let spec = if spec.has_large_window() { &spec.with_channels_outside() } else { spec };
        let mut row_strides = vec![1; spec.spatial.len()];
        for d in (1..spec.spatial.len()).rev() {
            row_strides[d - 1] = row_strides[d] * spec.spatial[d].output as isize;
        }
        let batch_rows = spec.spatial.iter().map(|d| d.output).product();
        let mut whole =
            Phase { spec: spec.clone(), groups, rhs: 0, out: 0, first_row: 0, row_strides, batch_rows, runs: 1, samples };
        for dim in whole.spec.spatial.iter_mut().filter(|d| d.reverse) {
            whole.rhs += dim.window.saturating_sub(1) as isize * dim.rhs;
            dim.rhs = -dim.rhs;
            dim.reverse = false;
        }
        whole
    }
}

/// Samples, and elements of the parts of all sums that these may be.
const SAMPLES: Range<usize> = 2..65;
const PARTIALS: usize = 1 << 19;

impl Phase {
    /// Those of the product that it is: rows are output positions, columns the features of a group.
    pub fn extents(&self) -> Extents {
        let (count, n) = (self.groups.count, self.groups.features);
        let x = Extents { batch: count, m: self.spec.positions(), n, k: self.spec.terms(), runs: self.runs, splits: None };
        Extents { splits: self.samples.filter(|&samples| are_parts(samples, x)), ..x }
    }
}

/// Whether sums are formed sample by sample: where a sample is whole chunks of terms, and its parts of the sums are small beside its
/// operands. It decides the order of sums, so it looks at extents only.
fn are_parts(samples: usize, x: Extents) -> bool {
    let whole = SAMPLES.contains(&samples) && x.k > 0 && (x.k / samples).is_multiple_of(KC);
    whole && x.multiply_adds() > SMALL && samples * x.outputs() <= PARTIALS && samples >= x.splits()
}

/// Splits a convolution of a dilated input into one for each set of outputs that meet the same window elements, so that no
/// product with a hole is formed. Without dilation there is one phase.
pub(super) fn phases(whole: Phase) -> Vec<Phase> {
    let spatial = whole.spec.spatial.clone();
    let mut all = vec![whole];
    for (d, dim) in spatial.iter().enumerate() {
        if dim.lhs_dilation > 1 && dim.stride == 1 && dim.rhs_dilation == 1 {
            all = all.iter().flat_map(|phase| (0..dim.lhs_dilation).map(|shift| phase.shifted(d, shift))).collect();
        }
    }
    all.retain(|p| p.spec.positions() > 0);
    all
}

impl Phase {
    /// The outputs `shift`, `shift + dilation`, … of spatial dimension `d`.
    fn shifted(&self, d: usize, shift: usize) -> Phase {
        let mut phase = self.clone();
        let dim = &mut phase.spec.spatial[d];
        let (dilation, step) = (dim.lhs_dilation, dim.lhs_dilation as isize);
        let first = (dim.pad_low - shift as isize).rem_euclid(step);
        phase.rhs += first * dim.rhs;
        phase.out += shift as isize * dim.out;
        phase.first_row += shift * phase.row_strides[d] as usize;
        phase.row_strides[d] *= step;
        dim.output = dim.output.saturating_sub(shift).div_ceil(dilation);
        dim.window = dim.window.saturating_sub(first as usize).div_ceil(dilation);
        // Exact: `first` was chosen so that this is a multiple of the dilation.
        dim.pad_low = (dim.pad_low - shift as isize - first) / step;
        dim.lhs_dilation = 1;
        dim.rhs *= step;
        dim.out *= step;
        phase
    }
}
