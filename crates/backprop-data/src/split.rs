//! Splitting a data set in two.
//!
//! Every function gives `(rest, part)`: `part` has the share asked for, rounded to whole rows, and
//! neither is empty. The rows keep their order.

use std::sync::Arc;

use crate::order::Stream;
use crate::{DataError, Dataset, Kind, Order, Role, Subset};

/// Seed of test parts: they must not change with the seed of a run.
pub const TEST_SEED: u64 = 0;

/// The two parts of a split: what remains, and what was taken.
pub type Halves = (Arc<dyn Dataset>, Arc<dyn Dataset>);

/// Draws rows at random, by `seed`; each class in proportion where the target is a class label.
///
/// # Errors
/// A share outside 0..1, a part without rows, or what reading the labels gave.
///
/// ```
/// use backprop_data::{Dataset, split};
///
/// let train = backprop_data::fashion()?.train;
/// let (train, validation) = split::random(train, 0.1, 42)?;
/// assert_eq!((train.len(), validation.len()), (2700, 300));
/// # Ok::<(), backprop_data::DataError>(())
/// ```
pub fn random(data: Arc<dyn Dataset>, share: f64, seed: u64) -> Result<Halves, DataError> {
    let take = count(data.as_ref(), share, data.len())?;
    let order = Order::keyed(seed, Stream::Split, 0, data.len());
    let shuffled: Vec<usize> = (0..data.len()).map(|i| order.index(i)).collect();
    let label =
        data.columns().iter().position(|c| c.role == Role::Target && matches!(c.kind, Kind::Class(_)) && c.shape.is_empty());
    let taken = match label {
        Some(label) => in_proportion(data.as_ref(), label, &shuffled, share, take)?,
        None => shuffled[..take].to_vec(),
    };
    if taken.is_empty() {
        return Err(split_empty(data.as_ref(), share));
    }
    let mut is_taken = vec![false; data.len()];
    for row in taken {
        is_taken[row] = true;
    }
    select(data, |row| is_taken[row])
}

/// Takes the end of the data, for texts and series: shuffled windows would overlap those that are
/// trained on. The last `gap` rows before the part are left out of both.
///
/// # Errors
/// A share outside 0..1, or a part without rows.
pub fn tail(data: Arc<dyn Dataset>, share: f64, gap: usize) -> Result<Halves, DataError> {
    let rows = data.len();
    let take = count(data.as_ref(), share, rows.saturating_sub(gap))?;
    let end = row_number(data.as_ref(), rows)?;
    let (rest, part) = (rows - take - gap, rows - take);
    let part = Subset::new(Arc::clone(&data), (part as u32..end).collect())?;
    let rest = Subset::new(data, (0..rest as u32).collect())?;
    Ok((Arc::new(rest), Arc::new(part)))
}

/// The number of rows that is `share` of `rows`, after checking that both parts have some.
fn count(data: &dyn Dataset, share: f64, rows: usize) -> Result<usize, DataError> {
    if !(0.0..1.0).contains(&share) {
        return Err(DataError::Share { share });
    }
    let take = (share * rows as f64).round() as usize;
    if take == 0 || take >= rows {
        return Err(split_empty(data, share));
    }
    Ok(take)
}

fn split_empty(data: &dyn Dataset, share: f64) -> DataError {
    let (data, rows) = (data.name().into(), data.len());
    DataError::SplitEmpty { data, share, rows }
}

fn select(data: Arc<dyn Dataset>, taken: impl Fn(usize) -> bool) -> Result<Halves, DataError> {
    let rows = 0..row_number(data.as_ref(), data.len())?;
    let (part, rest) = rows.partition(|&r| taken(r as usize));
    let rest = Subset::new(Arc::clone(&data), rest)?;
    Ok((Arc::new(rest), Arc::new(Subset::new(data, part)?)))
}

/// `row` in the 32 bits that a [`Subset`] has for it.
fn row_number(data: &dyn Dataset, row: usize) -> Result<u32, DataError> {
    row.try_into().map_err(|_| DataError::TooManyRows { data: data.name().into(), rows: data.len() })
}

/// Takes from each class, in the shuffled order, its share rounded down, and gives the rows that
/// are then missing from `take` to the classes with the largest remainders (the method of Hamilton).
/// The last row of a class always stays.
fn in_proportion(data: &dyn Dataset, label: usize, shuffled: &[usize], share: f64, take: usize) -> Result<Vec<usize>, DataError> {
    let mut labels = vec![0; data.len()];
    data.fill_i32(label, &(0..data.len()).collect::<Vec<_>>(), &mut labels)?;
    let mut by_class = shuffled.to_vec();
    by_class.sort_by_key(|&row| labels[row]);
    let classes: Vec<&[usize]> = by_class.chunk_by(|&a, &b| labels[a] == labels[b]).collect();

    let exact = |class: &[usize]| share * class.len() as f64;
    let mut takes: Vec<usize> = classes.iter().map(|c| exact(c).floor() as usize).collect();
    let mut by_remainder: Vec<usize> = (0..classes.len()).collect();
    by_remainder.sort_by(|&a, &b| {
        let (a, b) = (exact(classes[a]).fract(), exact(classes[b]).fract());
        b.total_cmp(&a)
    });
    let mut missing = take.saturating_sub(takes.iter().sum());
    for class in by_remainder {
        if missing > 0 && takes[class] + 1 < classes[class].len() {
            takes[class] += 1;
            missing -= 1;
        }
    }
    let taken = classes.iter().zip(takes).flat_map(|(rows, n)| &rows[..n]);
    Ok(taken.copied().collect())
}
