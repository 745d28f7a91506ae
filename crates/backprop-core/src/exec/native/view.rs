//! Strided views: how reshapes, transposes, broadcasts, slices and reversals happen without moving anything.

/// The elements of a value in some order: one stride per dimension, in elements.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct View {
    pub shape: Vec<usize>,
    pub strides: Vec<isize>,
    pub offset: isize,
}

/// Row-major strides.
pub(crate) fn row_major(shape: &[usize]) -> Vec<isize> {
    let mut strides = vec![1; shape.len()];
    for d in (1..shape.len()).rev() {
        strides[d - 1] = strides[d] * shape[d] as isize;
    }
    strides
}

/// Adjacent dimensions of several operands merged where all of them walk them as one; extents of 1 are dropped.
pub(crate) fn merge<const N: usize>(dims: impl IntoIterator<Item = (usize, [isize; N])>) -> Vec<(usize, [isize; N])> {
    let mut merged: Vec<(usize, [isize; N])> = Vec::new();
    for (extent, strides) in dims.into_iter().filter(|d| d.0 != 1) {
        match merged.last_mut() {
            Some(last) if (0..N).all(|i| last.1[i] == strides[i] * extent as isize) => *last = (last.0 * extent, strides),
            _ => merged.push((extent, strides)),
        }
    }
    merged
}

impl View {
    /// All elements in row-major order.
    pub fn dense(shape: &[usize]) -> View {
        View { shape: shape.to_vec(), strides: row_major(shape), offset: 0 }
    }

    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether the elements are adjacent and in order, wherever they start.
    pub fn is_dense(&self) -> bool {
        let mut expected = 1;
        for (&extent, &stride) in self.shape.iter().zip(&self.strides).rev() {
            if extent != 1 && stride != expected {
                return self.elements() == 0;
            }
            expected *= extent as isize;
        }
        true
    }

    pub fn transpose(&self, permutation: &[usize]) -> View {
        View {
            shape: permutation.iter().map(|&d| self.shape[d]).collect(),
            strides: permutation.iter().map(|&d| self.strides[d]).collect(),
            offset: self.offset,
        }
    }

    /// Dimension `i` becomes dimension `dims[i]` of `shape`; extents of 1 are stretched.
    pub fn broadcast(&self, shape: &[usize], dims: &[usize]) -> View {
        let mut strides = vec![0; shape.len()];
        for (i, &d) in dims.iter().enumerate() {
            if self.shape[i] != 1 {
                strides[d] = self.strides[i];
            }
        }
        View { shape: shape.to_vec(), strides, offset: self.offset }
    }

    pub fn slice(&self, start: &[usize], limit: &[usize], step: &[usize]) -> View {
        let mut view = self.clone();
        for d in 0..start.len() {
            view.shape[d] = (limit[d] - start[d]).div_ceil(step[d]);
            view.strides[d] *= step[d] as isize;
            view.offset += start[d] as isize * self.strides[d];
        }
        view
    }

    pub fn reverse(&self, dims: &[usize]) -> View {
        let mut view = self.clone();
        for &d in dims {
            view.offset += self.shape[d].saturating_sub(1) as isize * self.strides[d];
            view.strides[d] = -self.strides[d];
        }
        view
    }

    /// The same elements in the same order under another shape, if one stride per dimension can say it.
    pub fn reshape(&self, shape: &[usize]) -> Option<View> {
        if self.elements() == 0 {
            return Some(View::dense(shape));
        }
        let mut blocks = merge(self.shape.iter().zip(&self.strides).map(|(&e, &s)| (e, [s])));
        let mut strides = vec![0; shape.len()];
        let (mut rest, mut stride) = (1, 1);
        for (d, &extent) in shape.iter().enumerate().rev() {
            if extent == 1 {
                continue;
            }
            if rest == 1 {
                let (extent, [step]) = blocks.pop()?;
                (rest, stride) = (extent, step);
            }
            if rest % extent != 0 {
                return None;
            }
            strides[d] = stride;
            stride *= extent as isize;
            rest /= extent;
        }
        Some(View { shape: shape.to_vec(), strides, offset: self.offset })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Positions in the base in row-major order of the view.
    fn positions(view: &View) -> Vec<isize> {
        let shape = crate::Shape::from(&view.shape[..]);
        let at = |index: Vec<usize>| index.iter().zip(&view.strides).map(|(&i, &s)| i as isize * s).sum::<isize>();
        shape.indices().map(|index| view.offset + at(index)).collect()
    }

    #[test]
    fn reshapes_keep_the_order_of_elements() {
        let base = View::dense(&[4, 3, 2]);
        let views = [
            base.clone(),
            base.transpose(&[1, 0, 2]),
            base.transpose(&[0, 2, 1]),
            base.reverse(&[0, 2]),
            base.slice(&[1, 0, 0], &[3, 3, 2], &[1, 2, 1]),
            View::dense(&[6]).broadcast(&[4, 6], &[1]),
            View::dense(&[4, 1]).broadcast(&[4, 6], &[0, 1]),
        ];
        let mut made = 0;
        for view in &views {
            for shape in [&[24][..], &[4, 6], &[2, 2, 6], &[12, 2], &[2, 4], &[8], &[4, 2, 3], &[1, 24, 1]] {
                if shape.iter().product::<usize>() == view.elements() {
                    let reshaped = view.reshape(shape);
                    made += usize::from(reshaped.is_some());
                    reshaped.iter().for_each(|r| assert_eq!(positions(r), positions(view), "{view:?} to {shape:?}"));
                }
            }
        }
        assert!(made > 12, "{made}");
    }

    #[test]
    fn only_adjacent_elements_in_order_are_dense() {
        assert!(View::dense(&[3, 1, 4]).is_dense());
        assert!(View::dense(&[3, 4]).slice(&[1, 0], &[3, 4], &[1, 1]).is_dense());
        assert!(!View::dense(&[3, 4]).transpose(&[1, 0]).is_dense());
        assert!(!View::dense(&[4]).reverse(&[0]).is_dense());
        assert!(View::dense(&[1]).reverse(&[0]).is_dense());
    }
}
