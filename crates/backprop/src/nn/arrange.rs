use super::{Layer, Scope};
use backprop_core::{Tensor, op::Pad};
use serde::{Deserialize, Serialize};

/// The same elements under another shape of each sample: `[N, ..]` to `[N, shape..]`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reshape {
    /// Shape of a sample, without the batch. One extent may be −1: what the others leave.
    pub shape: Vec<isize>,
}

impl Reshape {
    /// To samples of a shape; one extent may be −1.
    pub fn new(shape: impl Into<Vec<isize>>) -> Reshape {
        Reshape { shape: shape.into() }
    }

    /// The extents of a sample of `elements`, or what is wrong.
    fn extents(&self, elements: usize) -> Result<Vec<usize>, String> {
        let given = self.shape.iter().filter(|&&e| e != -1);
        let known = given.clone().try_fold(1usize, |n, &e| usize::try_from(e).ok().filter(|&e| e > 0)?.checked_mul(n));
        let free = self.shape.len() - given.count();
        let (Some(known), true) = (known, free <= 1) else {
            return Err(format!("the extents must be positive, and one of them may be -1, got {:?}", self.shape));
        };
        let fits = if free == 1 { elements.is_multiple_of(known) } else { elements == known };
        if !fits {
            return Err(format!("a sample has {elements} elements, which do not give the shape {:?}", self.shape));
        }
        Ok(self.shape.iter().map(|&e| usize::try_from(e).unwrap_or(elements / known)).collect())
    }
}

impl Layer for Reshape {
    fn forward<'g>(&self, cx: &mut Scope<'g>, x: Tensor<'g>) -> Tensor<'g> {
        let shape = x.shape();
        let Some((&batch, sample)) = shape.split_first() else {
            return cx.builder().fail("reshape", &[x.ty()], "needs a batch dimension".into());
        };
        match self.extents(sample.iter().product()) {
            Ok(extents) => x.reshape([&[batch], &extents[..]].concat()),
            Err(message) => cx.builder().fail("reshape", &[x.ty()], message),
        }
    }
}

/// The dimensions of each sample in another order. The batch, dimension 0, stays the first.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Permute {
    /// Which dimension of the input becomes the first, second, … of a sample; they count from 1. `[2, 1]` exchanges two.
    pub dims: Vec<usize>,
}

impl Permute {
    /// By the list of dimensions, which count from 1.
    pub fn new(dims: impl Into<Vec<usize>>) -> Permute {
        Permute { dims: dims.into() }
    }
}

impl Layer for Permute {
    fn forward<'g>(&self, cx: &mut Scope<'g>, x: Tensor<'g>) -> Tensor<'g> {
        let mut sorted = self.dims.clone();
        sorted.sort_unstable();
        if x.rank() == 0 || !sorted.into_iter().eq(1..x.rank()) {
            let last = x.rank().saturating_sub(1);
            let message = format!("dims must name each dimension from 1 to {last} once, got {:?}", self.dims);
            return cx.builder().fail("permute", &[x.ty()], message);
        }
        x.transpose(&[&[0], &self.dims[..]].concat())
    }
}

/// Edges of an image: one number for all, or `[left, right, top, bottom]`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(untagged, expecting = "expected a whole number, or four as [left, right, top, bottom]")]
pub enum Edges {
    /// The same on every side.
    All(usize),
    /// Left, right, top, bottom.
    Each([usize; 4]),
}

impl From<usize> for Edges {
    fn from(n: usize) -> Edges {
        Edges::All(n)
    }
}

impl From<[usize; 4]> for Edges {
    fn from(each: [usize; 4]) -> Edges {
        Edges::Each(each)
    }
}

/// Zeros around images: `[N, H, W, C]` to `[N, H', W', C]`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ZeroPad2d {
    /// How many on each side: one number, or `[left, right, top, bottom]` as in PyTorch.
    pub padding: Edges,
}

impl ZeroPad2d {
    /// As many zeros on each side, or `[left, right, top, bottom]`.
    pub fn new(padding: impl Into<Edges>) -> ZeroPad2d {
        ZeroPad2d { padding: padding.into() }
    }
}

impl Layer for ZeroPad2d {
    fn forward<'g>(&self, cx: &mut Scope<'g>, x: Tensor<'g>) -> Tensor<'g> {
        let edges = match self.padding {
            Edges::All(n) => [n; 4],
            Edges::Each(each) => each,
        };
        const LARGEST: usize = 1 << 24;
        if x.rank() != 4 || edges.iter().any(|&e| e > LARGEST) {
            let message = format!("needs images [N, height, width, channels] and at most {LARGEST} zeros on a side");
            return cx.builder().fail("zero_pad2d", &[x.ty()], message);
        }
        let [left, right, top, bottom] = edges.map(|e| e as isize);
        x.pad(x.like(0.0), Pad { low: vec![0, top, left, 0], high: vec![0, bottom, right, 0], interior: vec![0; 4] })
    }
}
