//! Gradients of large tables of which a step reads few rows: kept as sums of those rows, and read as if they were the whole table. Their norm is
//! that of the rows.

use super::ir::{Access, Def, Elementwise, Lowering, NodeOp, Val};
use crate::{
    DType, Type,
    graph::ValueId,
    op::{Binary, Op, Reduce, Reducer, ScatterAdd},
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

    /// The sums of rows, and a table that is never in memory where all its readers go through it element by element.
    pub(super) fn sparse_rows(&mut self, inputs: Vec<Access>, types: &[Type], flops: u64) -> Vec<Val> {
        let (rows, width) = (types[0].shape[0], types[0].shape[1]);
        let dense: Vec<Access> = inputs[1..].iter().map(|access| self.dense(access)).collect();
        let count = inputs[1].view.elements();
        let made = [Type::new(DType::U64, [count]), Type::new(DType::F32, [count, width])];
        let [keys, sums] = self.push(NodeOp::RowSums(rows), dense, &made, flops)[..] else { return Vec::new() };
        let operands = vec![self.whole(keys), self.whole(sums)];
        let table = self.push(NodeOp::Elementwise(Elementwise::SparseRows), operands, types, 0);
        self.sums.insert(table[0], sums);
        table
    }

    /// What a reduction adds, where that are all squares of a sparse table: those of its rows, for zeros add nothing.
    pub(super) fn squares_of_rows(&mut self, reduce: &Reduce, squares: ValueId) -> Option<Access> {
        let (node, all) = (self.graph.node(squares.node), reduce.reducer == Reducer::Sum && reduce.dims.len() == 2);
        let inputs = node.inputs.first().filter(|_| all && matches!(node.op, Op::Binary(Binary::Mul)));
        let sums = self.rows_of(*inputs.filter(|first| node.inputs[1] == **first)?)?;
        let (ty, sums) = (self.result.values[sums].ty.clone(), self.whole(sums));
        let square = NodeOp::Elementwise(Elementwise::Binary(Binary::Mul));
        let value = self.push(square, vec![sums.clone(), sums], &[ty], 0)[0];
        Some(self.whole(value))
    }

    /// The sums of the rows that a whole sparse table is made of.
    fn rows_of(&self, table: ValueId) -> Option<Val> {
        let access = &self.accesses[&table];
        self.sums.get(&access.value).copied().filter(|_| self.result.is_identity(access))
    }
}
