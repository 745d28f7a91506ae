//! Cutting an order into batches.

use crate::{DataError, Order};

/// What happens to the last batch when the rows do not divide evenly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Remainder {
    /// It is smaller; every row is visited once.
    Keep,
    /// It is left out; every batch has the same size.
    Drop,
}

/// Walks through an [`Order`] in batches, from any position.
///
/// ```
/// use backprop_data::{Batches, Order, Remainder};
///
/// # fn main() -> Result<(), backprop_data::DataError> {
/// let order = Order::new(1, 0, 10);
/// let mut batches = Batches::new(order, 4, Remainder::Keep)?;
/// let mut rows = Vec::new();
/// batches.next_into(&mut rows);
/// let position = batches.position();
///
/// let mut resumed = Batches::new(order, 4, Remainder::Keep)?.starting_at(position);
/// assert!(resumed.next_into(&mut rows) && rows.len() == 4);
/// assert!(resumed.next_into(&mut rows) && rows.len() == 2);
/// assert!(!resumed.next_into(&mut rows));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Batches {
    order: Order,
    size: usize,
    remainder: Remainder,
    position: usize,
}

impl Batches {
    /// Batches of `size` rows from the beginning of `order`.
    ///
    /// # Errors
    /// A size of 0.
    pub fn new(order: Order, size: usize, remainder: Remainder) -> Result<Self, DataError> {
        if size == 0 {
            return Err(DataError::BatchSize);
        }
        Ok(Self { order, size, remainder, position: 0 })
    }

    /// Continues at `position`, counted in rows of the order: what [`position`](Self::position)
    /// gave before a run was interrupted.
    #[must_use]
    pub fn starting_at(mut self, position: usize) -> Self {
        self.position = position;
        self
    }

    /// Rows of the order that were handed out, those skipped by
    /// [`starting_at`](Self::starting_at) included.
    pub fn position(&self) -> usize {
        self.position
    }

    /// Number of batches that are still to come.
    pub fn remaining(&self) -> usize {
        let rows = self.order.len().saturating_sub(self.position);
        match self.remainder {
            Remainder::Keep => rows.div_ceil(self.size),
            Remainder::Drop => rows / self.size,
        }
    }

    /// Puts the next batch's rows into `rows` and moves on; `false`, and no rows, at the end.
    /// Allocates only until `rows` has room for one batch.
    pub fn next_into(&mut self, rows: &mut Vec<usize>) -> bool {
        rows.clear();
        if self.remaining() == 0 {
            return false;
        }
        let end = self.order.len().min(self.position + self.size);
        rows.extend((self.position..end).map(|i| self.order.index(i)));
        self.position = end;
        true
    }
}
