use crate::{
    optim::Optimizer,
    schedule::{Clock, Rates, Schedule},
};
use backprop_core::{DType, HostTensor, Type};
use std::sync::Arc;

/// Parameters updated together: by which optimizer, under which schedule, clipped how, averaged how.
#[derive(Clone, Debug)]
pub struct Group {
    /// Name the step's closure updates it by; empty for the only one.
    pub name: String,
    /// The update rule.
    pub optimizer: Arc<dyn Optimizer>,
    /// The learning rate that the schedule starts from; the optimizer's if not given.
    pub learning_rate: Option<f64>,
    /// The learning rate by step.
    pub schedule: Schedule,
    /// Largest global norm of the gradient; larger ones are scaled down to it.
    pub clip_norm: Option<f64>,
    /// Largest magnitude of a gradient's element, after scaling; larger ones are cut to it.
    pub clip_value: Option<f64>,
    /// Share of the previous moving average of the parameters that is kept; none is formed if not given.
    pub ema: Option<f64>,
}

impl Group {
    /// A group at a constant rate without clipping and averaging.
    pub fn new(name: impl Into<String>, optimizer: impl Optimizer + 'static) -> Group {
        Group {
            name: name.into(),
            optimizer: Arc::new(optimizer),
            learning_rate: None,
            schedule: Schedule::default(),
            clip_norm: None,
            clip_value: None,
            ema: None,
        }
    }

    /// The learning rate by step.
    pub fn schedule(mut self, schedule: Schedule) -> Group {
        self.schedule = schedule;
        self
    }

    /// Largest global norm of the gradient.
    pub fn clip_norm(mut self, limit: f64) -> Group {
        self.clip_norm = Some(limit);
        self
    }

    /// Largest magnitude of a gradient's element.
    pub fn clip_value(mut self, limit: f64) -> Group {
        self.clip_value = Some(limit);
        self
    }

    /// Keeps an exponential moving average of the parameters as the state `ema/NAME`: after each update, `decay` times the average
    /// before plus 1 − `decay` times the parameter; after the first, the parameter.
    pub fn ema(mut self, decay: f64) -> Group {
        self.ema = Some(decay);
        self
    }

    fn entries(&self, rates: Rates, updates: u64) -> Vec<(&'static str, f64)> {
        let mut entries = self.optimizer.entries(rates, updates);
        entries.extend(self.clip_norm.map(|limit| ("clip_norm", limit)));
        entries.extend(self.clip_value.map(|limit| ("clip_value", limit)));
        let decay = self.ema.map(|decay| if updates == 0 { 0.0 } else { decay });
        entries.extend(decay.into_iter().flat_map(|decay| [("ema_kept", decay), ("ema_entering", 1.0 - decay)]));
        entries
    }

    fn validate(&self) -> Result<(), String> {
        self.optimizer.validate()?;
        self.schedule.validate()?;
        let positive = |name: &str, value: Option<f64>| match value.filter(|v| !v.is_finite() || *v <= 0.0) {
            Some(limit) => Err(format!("{name} must be a positive number, got {limit}")),
            None => Ok(()),
        };
        positive("learning_rate", self.learning_rate)?;
        positive("clip_norm", self.clip_norm)?;
        positive("clip_value", self.clip_value)?;
        match self.ema.filter(|decay| !(0.0..1.0).contains(decay)) {
            Some(decay) => Err(format!("ema must be at least 0 and below 1, got {decay}")),
            None => Ok(()),
        }
    }
}

/// The groups of a step. They fix the layout of the runtime vector [`HYPER`](super::HYPER): group after group, entry after entry.
#[derive(Clone, Debug, Default)]
pub struct Groups(pub Vec<Group>);

impl Groups {
    /// Length of the runtime vector.
    pub fn len(&self) -> usize {
        self.names().len()
    }

    /// Whether there are no runtime numbers.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Group and name of every entry of the runtime vector.
    pub fn names(&self) -> Vec<(String, &'static str)> {
        let any = Rates { learning_rate: 0.0, momentum: None };
        let of = |g: &Group| g.entries(any, 0).into_iter().map(|(name, _)| (g.name.clone(), name)).collect::<Vec<_>>();
        self.0.iter().flat_map(of).collect()
    }

    /// The rates of each group at a step.
    pub fn rates(&self, at: Clock) -> Vec<Rates> {
        self.0.iter().map(|g| g.schedule.rates(g.learning_rate.unwrap_or(g.optimizer.learning_rate()), at)).collect()
    }

    /// The runtime vector of a step (from 0) of `total_steps` in one epoch, where every step before made an update: a pure function,
    /// so that a resumed run goes on as it would have.
    pub fn hyper(&self, step: u64, total_steps: u64) -> HostTensor {
        self.hyper_at(&self.rates(Clock::new(step, total_steps)), step)
    }

    /// The runtime vector for given rates, one for each group, after `updates` updates. Steps that were not finite made none.
    pub fn hyper_at(&self, rates: &[Rates], updates: u64) -> HostTensor {
        let mut vector = HostTensor::zeros(Type::new(DType::F32, [self.len()]));
        self.write_hyper(rates, updates, &mut vector);
        vector
    }

    /// As [`hyper_at`](Self::hyper_at), into a vector that an earlier step had.
    pub fn write_hyper(&self, rates: &[Rates], updates: u64, vector: &mut HostTensor) {
        let Some(slots) = vector.as_mut_slice::<f32>() else { return };
        let values = self.0.iter().zip(rates).flat_map(|(g, &r)| g.entries(r, updates)).map(|(_, value)| value as f32);
        slots.iter_mut().zip(values).for_each(|(slot, value)| *slot = value);
    }

    /// Checks every group's numbers.
    ///
    /// # Errors
    /// A sentence saying which number is wrong.
    pub fn validate(&self) -> Result<(), String> {
        self.0.iter().try_for_each(Group::validate)
    }
}
