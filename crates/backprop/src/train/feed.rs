use super::{Part, TrainError};
use crate::step::BatchSpec;
use backprop_core::{DType, HostTensor, Type};
use backprop_data::{Augment, BatchType, Batches, Column, Dataset, Draw, Kind, Order, Parts, Remainder, Scale};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// The columns that the network and the loss read, row by row: shared by all threads that fill batches.
#[derive(Clone)]
pub(super) struct Feed {
    pub(super) parts: Parts,
    pub(super) input: usize,
    pub(super) target: usize,
    pub(super) scale: Scale,
    pub(super) target_scale: Scale,
    /// Shape of one row's target.
    pub(super) target_shape: Vec<usize>,
    pub(super) batch_size: usize,
    /// Random changes of the images of training passes.
    pub(super) augment: Option<Augment>,
}

/// One pass over a part of the data: which rows, in which order.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Pass {
    pub(super) part: Part,
    /// Seed and epoch (from 0) of a training pass, whose order is shuffled; `None` visits the rows in sequence.
    pub(super) shuffled: Option<(u64, u64)>,
    /// Rows of the order that are left out at the beginning, because they were trained on before.
    pub(super) position: usize,
}

impl Feed {
    /// Rows of a part; 0 if there is no such part.
    pub(super) fn rows(&self, part: Part) -> usize {
        self.part(part).map_or(0, |data| data.len())
    }

    pub(super) fn part(&self, part: Part) -> Option<&Arc<dyn Dataset>> {
        match part {
            Part::Train => Some(&self.parts.train),
            Part::Validation => self.parts.validation.as_ref(),
            Part::Test => self.parts.test.as_ref(),
        }
    }

    pub(super) fn column(&self, number: usize) -> &Column {
        &self.parts.train.columns()[number]
    }

    /// The types of a batch of `rows` rows.
    pub(super) fn batch_spec(&self, rows: usize) -> BatchSpec {
        let ty = |column: &Column, shape: &[usize]| {
            let dtype = if column.kind.batch_type() == BatchType::F32 { DType::F32 } else { DType::I32 };
            Type::new(dtype, std::iter::once(rows).chain(shape.iter().copied()).collect::<Vec<_>>())
        };
        let (input, target) = (self.column(self.input), self.column(self.target));
        BatchSpec { x: ty(input, &input.shape), y: ty(target, &self.target_shape) }
    }

    /// Gives targets that are numbers the shape of the network's output, where they have as many elements: the images that an
    /// autoencoder restores as rows of numbers, the single number of a regression.
    pub(super) fn shape_targets_as(&mut self, output: &[usize]) {
        let elements: usize = output.iter().product();
        if self.column(self.target).kind == Kind::Number && elements == self.column(self.target).elements() {
            self.target_shape = output.to_vec();
        }
    }

    /// Whether filling a batch is nothing but copying from memory, faster than handing it from thread to thread.
    pub(super) fn is_copy(&self) -> bool {
        if self.augment.is_some() {
            return false;
        }
        let parts = [Part::Train, Part::Validation, Part::Test];
        parts.iter().filter_map(|&p| self.part(p)).all(|data| data.in_memory())
    }

    /// The batches of a pass.
    pub(super) fn batches(&self, pass: Pass) -> Result<Batches, TrainError> {
        let rows = self.rows(pass.part);
        let order = pass.shuffled.map_or_else(|| Order::sequential(rows), |(seed, epoch)| Order::new(seed, epoch, rows));
        Ok(Batches::new(order, self.batch_size, Remainder::Keep)?.starting_at(pass.position))
    }

    /// Reads rows of a pass into a batch of as many rows, and takes the time. Allocates nothing after the first time.
    pub(super) fn fill(&self, pass: Pass, rows: &[usize], batch: &mut Batch) -> Result<(), TrainError> {
        let clock = Instant::now();
        batch.augmenting = Duration::ZERO;
        let filled = self.fill_untimed(pass, rows, batch);
        batch.reading = clock.elapsed().saturating_sub(batch.augmenting);
        filled
    }

    fn fill_untimed(&self, pass: Pass, rows: &[usize], batch: &mut Batch) -> Result<(), TrainError> {
        let Some(data) = self.part(pass.part) else { return Ok(()) };
        if let (Some(augment), Some((seed, epoch)), Part::Train) = (&self.augment, pass.shuffled, pass.part) {
            self.fill_changed(augment, seed, epoch, rows, batch)?;
            if self.target == self.input {
                // An autoencoder restores the image that it was shown.
                if let (Some(x), Some(y)) = (batch.x.as_slice::<f32>(), batch.y.as_mut_slice::<f32>()) {
                    y.copy_from_slice(x);
                }
                return Ok(());
            }
        } else {
            fill(&**data, self.input, rows, &self.scale, &mut batch.x)?;
        }
        fill(&**data, self.target, rows, &self.target_scale, &mut batch.y)
    }
}

impl Feed {
    /// Reads images as they are, changes each at random and scales the result.
    fn fill_changed(
        &self,
        augment: &Augment,
        seed: u64,
        epoch: u64,
        rows: &[usize],
        batch: &mut Batch,
    ) -> Result<(), TrainError> {
        fill(&*self.parts.train, self.input, rows, &Scale::identity(), &mut batch.x)?;
        let column = self.column(self.input);
        let (&[height, width, channels], Some(images)) = (column.shape.as_slice(), batch.x.as_mut_slice::<f32>()) else {
            return Ok(());
        };
        let clock = Instant::now();
        for (&row, image) in rows.iter().zip(images.chunks_exact_mut(column.elements())) {
            let draw = Draw { seed, epoch, row: row as u64 };
            augment.apply(image, &mut batch.scratch, [height, width, channels], draw)?;
            self.scale.apply(image)?;
        }
        batch.augmenting = clock.elapsed();
        Ok(())
    }
}

/// Buffers of one batch size.
pub(super) struct Batch {
    pub(super) rows: usize,
    pub(super) x: HostTensor,
    pub(super) y: HostTensor,
    /// Room for one image that is being changed.
    scratch: Vec<f32>,
    /// Time that filling it took, by stages.
    pub(super) reading: Duration,
    pub(super) augmenting: Duration,
}

impl Batch {
    pub(super) fn new(feed: &Feed, rows: usize) -> Batch {
        let spec = feed.batch_spec(rows);
        Batch::of(HostTensor::zeros(spec.x), HostTensor::zeros(spec.y))
    }

    /// Inputs and targets of some rows.
    pub(super) fn of(x: HostTensor, y: HostTensor) -> Batch {
        let (rows, scratch) = (x.shape().first().copied().unwrap_or(0), Vec::new());
        Batch { rows, x, y, scratch, reading: Duration::ZERO, augmenting: Duration::ZERO }
    }
}

fn fill(data: &dyn Dataset, column: usize, rows: &[usize], scale: &Scale, to: &mut HostTensor) -> Result<(), TrainError> {
    if let Some(out) = to.as_mut_slice::<f32>() {
        data.fill_f32(column, rows, scale, out)?;
    } else if let Some(out) = to.as_mut_slice::<i32>() {
        data.fill_i32(column, rows, out)?;
    }
    Ok(())
}
