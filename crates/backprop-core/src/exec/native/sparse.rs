//! Gradients of large tables of which a step reads few rows: summed row by row, then written once among zeros. Their norm is that of the rows.

use super::ir::{Access, Def, Elementwise, Lowering, NodeOp, Val};
use crate::{
    DType, Type,
    graph::NodeId,
    op::{Binary, Op, Reducer, ScatterAdd},
};

/// The fewest elements of a table that is worth it: smaller ones stay in the second-level cache.
const ELEMENTS: usize = 1 << 16;
/// How many times as large as the updates the table is at least: keys are sorted by one thread.
const TIMES: usize = 4;

impl Lowering<'_> {
    /// Whether rows are added to a large table of zeros, few of them.
    pub(super) fn is_sparse(&self, scatter: &ScatterAdd, inputs: &[Access]) -> bool {
        let [table, indices, updates] = inputs else { return false };
        let value = &self.result.values[table.value];
        let ([rows, width], Some(&vector)) = (&table.view.shape[..], indices.view.shape.last()) else { return false };
        let of_rows = (&scatter.inserted_window_dims[..], &scatter.scatter_dims[..]) == (&[0], &[0])
            && scatter.update_window_dims == [updates.view.shape.len() - 1]
            && updates.view.shape.last() == Some(width);
        let small = *rows < u32::MAX as usize && indices.view.elements() < u32::MAX as usize;
        let zeros = matches!(value.def, Def::Scalar(0)) && value.ty.dtype == DType::F32;
        let large = rows * width >= ELEMENTS.max(TIMES * updates.view.elements());
        of_rows && vector == 1 && small && zeros && large
    }

    /// The sums of rows, and the table made of them.
    pub(super) fn sparse_rows(&mut self, inputs: Vec<Access>, types: &[Type], flops: u64) -> Vec<Val> {
        let (rows, width) = (types[0].shape[0], types[0].shape[1]);
        let dense: Vec<Access> = inputs[1..].iter().map(|access| self.dense(access)).collect();
        let count = inputs[1].view.elements();
        let made = [Type::new(DType::U64, [count]), Type::new(DType::F32, [count, width])];
        let [keys, sums] = self.push(NodeOp::RowSums(rows), dense, &made, flops)[..] else { return Vec::new() };
        let operands = vec![self.whole(keys), self.whole(sums)];
        let table = self.push(NodeOp::SpreadRows, operands, types, 0);
        self.sums.insert(table[0], sums);
        table
    }

    /// Squares of a sparse table that are only added, all of them: those of its rows, for zeros add nothing.
    pub(super) fn squares_of_rows(&mut self, id: NodeId, inputs: &[Access]) -> Option<Access> {
        let node = self.graph.node(id);
        let Op::Binary(Binary::Mul) = node.op else { return None };
        let &sums = self.sums.get(&inputs[0].value).filter(|_| inputs[0] == inputs[1] && self.result.is_identity(&inputs[0]))?;
        let summed = |op: &Op| matches!(op, Op::Reduce(r) if r.reducer == Reducer::Sum && r.dims.len() == 2);
        let read = self.graph.iter().filter(|(_, reader)| reader.inputs.iter().any(|v| v.node == id)).all(|(_, r)| summed(&r.op));
        if !read || self.graph.outputs.iter().any(|o| o.value.node == id) {
            return None;
        }
        let (ty, sums) = (self.result.values[sums].ty.clone(), self.whole(sums));
        let square = NodeOp::Elementwise(Elementwise::Binary(Binary::Mul));
        let value = self.push(square, vec![sums.clone(), sums], &[ty], 0)[0];
        Some(self.whole(value))
    }
}
