//! What happens to a finished tile of a product or convolution before it is stored.

/// Work on finished output tiles: it stores the results itself.
///
/// The kernel calls it exactly once for every element of the (batch, row, column) output, after the last term of the sum,
/// while the tile is still in cache. Rows and columns are those of the spec the kernel was made from.
pub trait Epilogue: Send + Sync {
    /// Bytes of private, 64-byte aligned memory `apply` needs.
    fn scratch(&self) -> usize;

    /// Consumes the tile of rows `row0 .. row0 + rows` and columns `col0 .. col0 + cols` of one batch.
    ///
    /// # Safety
    /// `tile` holds `rows` rows of `cols` finished values, `ld` elements apart; `operands` are those handed to
    /// [`Kernel::run`](crate::Kernel::run), valid as the kernel's constructor documents; `scratch` has the promised size.
    #[expect(clippy::too_many_arguments, reason = "a tile is a rectangle of a batch; a struct would only rename the list")]
    unsafe fn apply(
        &self,
        batch: usize,
        row0: usize,
        rows: usize,
        col0: usize,
        cols: usize,
        tile: *const f32,
        ld: usize,
        operands: &[*mut u8],
        scratch: *mut u8,
    );

    /// Asks for what [`apply`](Self::apply) will read and write of an area besides the tile, so that it is in the cache by then: a
    /// hint. `operands` are those `apply` will be given.
    fn fetch(&self, _batch: usize, _row0: usize, _rows: usize, _col0: usize, _cols: usize, _operands: &[*mut u8]) {}
}
