//! Work on many items by several threads, the results taken in order.

use std::sync::mpsc::sync_channel;
use std::thread;

use crate::{DataError, machine};

/// Finished blocks of a thread that may wait to be taken.
const AHEAD: usize = 2;

/// Makes something of every item on several threads, each of which takes blocks of `at_once` items, and takes the results in order, as
/// long as `take` says to go on; the first error in that order is returned.
pub(crate) fn in_order<I: Sync, T: Send>(
    items: &[I],
    at_once: usize,
    make: impl Fn(&I) -> Result<T, DataError> + Sync,
    mut take: impl FnMut(&I, T) -> Result<bool, DataError>,
) -> Result<(), DataError> {
    let blocks = || items.chunks(at_once);
    let threads = machine::threads().min(blocks().len());
    thread::scope(|scope| {
        let worker = |i: usize| {
            let (to, from) = sync_channel(AHEAD);
            let (mine, make) = (blocks().skip(i).step_by(threads), &make);
            scope.spawn(move || {
                for block in mine {
                    let made: Vec<_> = block.iter().map(make).collect();
                    if to.send(made).is_err() {
                        // Nobody takes any more.
                        return;
                    }
                }
            });
            from
        };
        let workers: Vec<_> = (0..threads).map(worker).collect();
        for (block, from) in blocks().zip(workers.iter().cycle()) {
            // A worker that sends nothing has panicked, which the scope passes on.
            let Ok(made) = from.recv() else { break };
            for (item, made) in block.iter().zip(made) {
                if !take(item, made?)? {
                    return Ok(());
                }
            }
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order_and_the_first_error_ends_it() {
        for count in [0, 1, 7, 8, 9, 1000] {
            let items: Vec<usize> = (0..count).collect();
            let mut taken = Vec::new();
            in_order(
                &items,
                8,
                |&i| Ok(i * i),
                |&i, square| {
                    taken.push(square);
                    Ok(i < 700)
                },
            )
            .unwrap();
            assert!(taken.into_iter().eq((0..count.min(701)).map(|i| i * i)), "{count}");
        }
        let items: Vec<usize> = (0..300).collect();
        let bad = |&row: &usize| if row >= 250 { Err(crate::dataset::no_row("bad", row, 0)) } else { Ok(()) };
        let mut taken = 0;
        let error = in_order(&items, 8, bad, |_, ()| {
            taken += 1;
            Ok(true)
        });
        assert!(matches!(error, Err(DataError::NoRow { row: 250, .. })) && taken == 250);
    }
}
