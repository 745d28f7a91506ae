//! Training, validation and test part of a source.

use std::sync::Arc;

use crate::{DataError, Dataset, InMemory, split};

/// The parts of a data source. Statistics must come from `train` alone.
#[derive(Clone)]
pub struct Parts {
    /// What is trained on.
    pub train: Arc<dyn Dataset>,
    /// What settings are chosen by, if any was split off.
    pub validation: Option<Arc<dyn Dataset>>,
    /// What the final figure is measured on, if there is any.
    pub test: Option<Arc<dyn Dataset>>,
    rule: Rule,
}

/// How further parts are split off.
#[derive(Clone, Copy)]
enum Rule {
    /// At random, each class in proportion.
    Shuffled,
    /// From the end, leaving out the rows that reach into the part.
    Tail { gap: usize },
}

impl Parts {
    /// Data of which any row may go to any part.
    pub fn shuffled(train: Arc<dyn Dataset>) -> Self {
        Self::new(train, Rule::Shuffled)
    }

    /// Data in a meaningful order (text, time series): parts are taken from the end, and `gap` rows
    /// before each part, which would overlap it, are left out.
    pub fn in_order(train: Arc<dyn Dataset>, gap: usize) -> Self {
        Self::new(train, Rule::Tail { gap })
    }

    fn new(train: Arc<dyn Dataset>, rule: Rule) -> Self {
        Self { train, validation: None, test: None, rule }
    }

    /// The same columns without any row, so that memory of the data can be given back.
    #[must_use]
    pub fn without_rows(&self) -> Self {
        Self::new(Arc::new(InMemory::without_rows(self.train.name(), self.train.columns())), self.rule)
    }

    /// Adds a test part that exists as such.
    #[must_use]
    pub fn with_test_set(mut self, test: Arc<dyn Dataset>) -> Self {
        self.test = Some(test);
        self
    }

    /// Splits a share off the training part as test part; a share of 0 leaves all as it is.
    ///
    /// # Errors
    /// A share outside 0..1, or one that leaves a part without rows.
    pub fn with_test(mut self, share: f64, seed: u64) -> Result<Self, DataError> {
        if share != 0.0 {
            let (train, test) = self.split(share, seed)?;
            (self.train, self.test) = (train, Some(test));
        }
        Ok(self)
    }

    /// Splits a share off the training part as validation part, by the run's seed; a share of 0
    /// leaves all as it is, and so does a validation part that is there already.
    ///
    /// # Errors
    /// As [`with_test`](Parts::with_test).
    pub fn with_validation(mut self, share: f64, seed: u64) -> Result<Self, DataError> {
        if share != 0.0 && self.validation.is_none() {
            let (train, validation) = self.split(share, seed)?;
            (self.train, self.validation) = (train, Some(validation));
        }
        Ok(self)
    }

    fn split(&self, share: f64, seed: u64) -> Result<split::Halves, DataError> {
        let train = Arc::clone(&self.train);
        match self.rule {
            Rule::Shuffled => split::random(train, share, seed),
            Rule::Tail { gap } => split::tail(train, share, gap),
        }
    }
}
