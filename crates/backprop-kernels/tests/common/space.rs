//! Convolutions of any number of dimensions, strides, holes and groups, whose operands lie in memory in any order.

use super::Dice;
use backprop_kernels::conv::{ConvDim, ConvSpec};

/// The most of everything that a random convolution has.
pub struct Most {
    pub batch: usize,
    pub channels: usize,
    pub features: usize,
    pub input: usize,
    pub window: usize,
    pub output: usize,
}

impl Most {
    /// Little space, and so many of everything else.
    pub fn small(most: usize) -> Most {
        Most { batch: most, channels: most, features: most, input: 9, window: 4, output: 9 }
    }
}

impl Dice {
    /// Strides of a dense tensor with these extents whose dimensions lie in memory in random order.
    pub fn dense(&mut self, extents: &[usize]) -> Vec<isize> {
        let mut order: Vec<usize> = (0..extents.len()).collect();
        for i in (1..order.len()).rev() {
            order.swap(i, self.roll(0, i));
        }
        let (mut strides, mut size) = (vec![0; extents.len()], 1);
        for d in order {
            strides[d] = size as isize;
            size *= extents[d].max(1);
        }
        strides
    }

    /// A convolution; memory orders are random, or channel-last.
    pub fn spec(&mut self, most: &Most, channel_last: bool) -> ConvSpec {
        let rank = self.roll(1, 3);
        let kind = self.roll(0, 2);
        let (feature_groups, batch_groups) = [(1, 1), (self.roll(2, 4), 1), (1, self.roll(2, 3))][kind];
        let groups = feature_groups * batch_groups;
        let (batch, channels) = (self.roll(1, most.batch), self.roll(1, most.channels));
        let features = groups * self.roll(1, most.features);
        let mut spatial: Vec<ConvDim> = (0..rank)
            .map(|_| ConvDim {
                input: self.roll(1, most.input),
                window: self.roll(1, most.window),
                output: self.roll(1, most.output),
                stride: self.roll(1, 3),
                pad_low: self.roll(0, 4) as isize - 2,
                lhs_dilation: [1, 1, 2, 3][self.roll(0, 3)],
                rhs_dilation: [1, 1, 2][self.roll(0, 2)],
                reverse: self.roll(0, 3) == 0,
                ..ConvDim::UNIT
            })
            .collect();
        let mut place = |outer: usize, inner: usize, pick: fn(&ConvDim) -> usize| {
            let mut extents = vec![outer];
            extents.extend(spatial.iter().map(pick));
            extents.push(inner);
            if channel_last { row_major(&extents) } else { self.dense(&extents) }
        };
        let lhs = place(batch * batch_groups, channels * feature_groups, |d| d.input);
        let rhs = place(channels, features, |d| d.window);
        let out = place(batch, features, |d| d.output);
        for (d, dim) in spatial.iter_mut().enumerate() {
            (dim.lhs, dim.rhs, dim.out) = (lhs[d + 1], rhs[d + 1], out[d + 1]);
        }
        ConvSpec {
            batch,
            lhs_batch: lhs[0],
            out_batch: out[0],
            channels,
            lhs_channel: lhs[rank + 1],
            rhs_channel: rhs[0],
            features,
            rhs_feature: rhs[rank + 1],
            out_feature: out[rank + 1],
            feature_groups,
            batch_groups,
            spatial,
        }
    }
}

/// Strides of a row-major tensor with these extents.
pub fn row_major(extents: &[usize]) -> Vec<isize> {
    let mut strides = vec![1; extents.len()];
    for d in (1..extents.len()).rev() {
        strides[d - 1] = strides[d] * extents[d] as isize;
    }
    strides
}

/// Elements of (lhs, rhs, out).
pub fn sizes(s: &ConvSpec) -> [usize; 3] {
    let size = |dims: &[(usize, isize)], spatial: fn(&ConvDim) -> (usize, isize)| {
        let all = dims.iter().copied().chain(s.spatial.iter().map(spatial));
        all.map(|(extent, stride)| extent.saturating_sub(1) * stride as usize).sum::<usize>() + 1
    };
    [
        size(&[(s.batch * s.batch_groups, s.lhs_batch), (s.channels * s.feature_groups, s.lhs_channel)], |d| (d.input, d.lhs)),
        size(&[(s.channels, s.rhs_channel), (s.features, s.rhs_feature)], |d| (d.window, d.rhs)),
        size(&[(s.batch, s.out_batch), (s.features, s.out_feature)], |d| (d.output, d.out)),
    ]
}
