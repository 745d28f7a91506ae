//! Layers of convolutional networks and the three convolutions of their training step.

use backprop_kernels::conv::{ConvDim, ConvSpec};

/// A channel-last layer: batch, height = width, channels, features, window, stride, padding, groups.
#[derive(Clone, Copy, Debug)]
pub struct Layer {
    pub batch: usize,
    pub size: usize,
    pub channels: usize,
    pub features: usize,
    pub window: usize,
    pub stride: usize,
    pub pad: usize,
    pub groups: usize,
}

impl Layer {
    pub fn out(&self) -> usize {
        (self.size + 2 * self.pad - self.window) / self.stride + 1
    }

    /// The forward convolution, its data gradient and its weight gradient, with weights [window, window, channels, features].
    pub fn specs(&self) -> [ConvSpec; 3] {
        let i = |x: usize| x as isize;
        let (row, per_group) = (i(self.features), i(self.channels / self.groups));
        self.specs_with([i(self.window) * per_group * row, per_group * row, row, 1])
    }

    /// The same with the weights of a PyTorch layer: [features, channels, window, window].
    pub fn torch_specs(&self) -> [ConvSpec; 3] {
        let i = |x: usize| x as isize;
        let window = i(self.window);
        self.specs_with([window, 1, window * window, i(self.channels / self.groups) * window * window])
    }

    /// Strides of the weights: window, window, channel, feature.
    fn specs_with(&self, w: [isize; 4]) -> [ConvSpec; 3] {
        let Layer { batch, size, channels, features, window, stride, pad, groups } = *self;
        let out = self.out();
        let i = |x: usize| x as isize;
        let (x_strides, y_strides) = ([size * channels, channels], [out * features, features]);
        let per_group = channels / groups;
        let forward = ConvSpec {
            batch,
            lhs_batch: i(size * size * channels),
            out_batch: i(out * out * features),
            channels: per_group,
            lhs_channel: 1,
            rhs_channel: w[2],
            features,
            rhs_feature: w[3],
            out_feature: 1,
            feature_groups: groups,
            batch_groups: 1,
            spatial: (0..2)
                .map(|d| ConvDim {
                    input: size,
                    lhs: i(x_strides[d]),
                    window,
                    rhs: w[d],
                    output: out,
                    out: i(y_strides[d]),
                    stride,
                    pad_low: i(pad),
                    ..ConvDim::UNIT
                })
                .collect(),
        };
        // With one channel in a group, the data gradient is a depthwise convolution again.
        let depthwise = groups > 1 && per_group == 1 && features == groups;
        let data = ConvSpec {
            lhs_batch: forward.out_batch,
            out_batch: forward.lhs_batch,
            channels: if depthwise { 1 } else { features },
            rhs_channel: w[3],
            features: channels,
            rhs_feature: if depthwise { w[3] } else { w[2] },
            feature_groups: if depthwise { groups } else { 1 },
            spatial: forward
                .spatial
                .iter()
                .map(|d| ConvDim {
                    input: out,
                    lhs: d.out,
                    output: size,
                    out: d.lhs,
                    stride: 1,
                    pad_low: i(window) - 1 - i(pad),
                    lhs_dilation: stride,
                    reverse: true,
                    ..*d
                })
                .collect(),
            ..forward.clone()
        };
        let weight = ConvSpec {
            batch: per_group,
            lhs_batch: 1,
            out_batch: w[2],
            channels: batch,
            lhs_channel: forward.lhs_batch,
            rhs_channel: forward.out_batch,
            features,
            rhs_feature: 1,
            out_feature: w[3],
            feature_groups: 1,
            batch_groups: groups,
            spatial: forward
                .spatial
                .iter()
                .map(|d| ConvDim { window: out, rhs: d.out, output: window, out: d.rhs, stride: 1, rhs_dilation: stride, ..*d })
                .collect(),
        };
        [forward, data, weight]
    }
}
