//! What a person or a program sees of the events of training.

use crate::output;
use backprop::events::{Epoch, Event, Score, Started, Step, Summary};
use indicatif::{ProgressBar, ProgressStyle};
use std::{
    io::{IsTerminal, stderr, stdout},
    time::{Duration, Instant},
};

/// Something that shows events.
pub(crate) trait View {
    fn show(&mut self, event: &Event);
}

/// JSON if asked for, a table with a progress bar on a terminal, else plain lines.
pub(crate) fn choose(json: bool) -> Box<dyn View> {
    if json {
        Box::new(Json { last_step: None })
    } else if stdout().is_terminal() && stderr().is_terminal() {
        Box::new(Terminal { bar: ProgressBar::hidden(), metric: String::new() })
    } else {
        Box::new(Lines { metric: String::new(), epochs: 0 })
    }
}

/// Steps are shown this often: a person reads no faster, and a step may take microseconds.
const STEP_EVERY: Duration = Duration::from_millis(1000);

struct Json {
    last_step: Option<Instant>,
}

impl View for Json {
    fn show(&mut self, event: &Event) {
        if let Event::Step(_) = event {
            if self.last_step.is_some_and(|t| t.elapsed() < STEP_EVERY) {
                return;
            }
            self.last_step = Some(Instant::now());
        }
        output::json(event);
    }
}

struct Lines {
    metric: String,
    epochs: u64,
}

impl View for Lines {
    fn show(&mut self, event: &Event) {
        match event {
            Event::Started(started) => {
                (self.metric, self.epochs) = (started.metric.clone(), started.epochs);
                introduction(started).iter().for_each(|text| output::line(text));
            }
            Event::Epoch(epoch) => output::line(&format!(
                "epoch {}/{}: train {}{}{}, {:.0} rows/s, {:.2} s",
                epoch.epoch,
                self.epochs,
                score(&epoch.train, &self.metric),
                epoch.validation.as_ref().map_or(String::new(), |s| format!(", validation {}", score(s, &self.metric))),
                if epoch.best { " (best)" } else { "" },
                epoch.rows_per_second,
                epoch.seconds,
            )),
            Event::EarlyStopped(stopped) => output::line(&stopped.to_string()),
            Event::Finished(summary) => conclusion(summary).iter().for_each(|text| output::line(text)),
            other => {
                if let Some(text) = warning(other) {
                    output::error_line(&text);
                }
            }
        }
    }
}

struct Terminal {
    bar: ProgressBar,
    metric: String,
}

impl Terminal {
    fn line(&self, text: &str) {
        self.bar.suspend(|| output::line(text));
    }

    fn start(&mut self, started: &Started) {
        self.metric = started.metric.clone();
        introduction(started).iter().for_each(|text| output::line(text));
        let metric = if self.metric == "loss" { "" } else { &self.metric };
        output::line(&format!("\nepoch  train loss {metric:>9}   valid. loss {metric:>9}      rate      rows/s    time"));
        let total = started.steps_per_epoch * started.epochs;
        let template = "{bar:28} {percent:>3} %  {msg}  {eta} left";
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        self.bar = ProgressBar::new(total).with_style(style).with_position(started.step);
    }

    fn step(&self, step: &Step, rate: f64) {
        let metric = if self.metric == "loss" { String::new() } else { format!("  {} {:.4}", self.metric, step.metric) };
        self.bar.set_message(format!("epoch {}  loss {:.4}{metric}  {:.0} rows/s", step.epoch, step.epoch_loss, rate));
    }

    fn epoch(&self, epoch: &Epoch) {
        let metric = |s: &Score| if self.metric == "loss" { " ".repeat(9) } else { format!("{:>9}", output::figure(s.metric)) };
        let loss = |s: &Score| output::figure(s.loss);
        let validation = epoch.validation.as_ref().map_or(" ".repeat(22), |s| format!("{:>12} {}", loss(s), metric(s)));
        self.line(&format!(
            "{:>5}  {:>10} {}  {validation}{} {:>10.2e} {:>10} {:>6.2}s",
            epoch.epoch,
            loss(&epoch.train),
            metric(&epoch.train),
            if epoch.best { "*" } else { " " },
            epoch.learning_rate,
            output::grouped(epoch.rows_per_second as u64),
            epoch.seconds,
        ));
    }
}

impl View for Terminal {
    fn show(&mut self, event: &Event) {
        match event {
            Event::Started(started) => self.start(started),
            Event::Step(step) => {
                self.bar.set_position(step.step);
                // The bar draws itself at most twenty times a second; making its text for each step would cost more than the step.
                if step.step.is_multiple_of(8) {
                    self.step(step, self.bar.per_sec() * step.rows as f64);
                }
            }
            Event::Epoch(epoch) => self.epoch(epoch),
            Event::EarlyStopped(stopped) => self.line(&stopped.to_string()),
            Event::Finished(summary) => {
                self.bar.finish_and_clear();
                output::line("");
                conclusion(summary).iter().for_each(|text| output::line(text));
            }
            other => {
                if let Some(text) = warning(other) {
                    self.bar.suspend(|| output::error_line(&text));
                }
            }
        }
    }
}

fn introduction(s: &Started) -> Vec<String> {
    let run = s.run.as_ref().map_or(String::new(), |run| format!("run {}, ", run.display()));
    let mut lines: Vec<String> = s.findings.iter().map(|finding| format!("data: {finding}")).collect();
    lines.extend([
        format!("{run}{}", s.device),
        format!(
            "{} parameters; {} training, {} validation, {} test rows; batch {}",
            output::grouped(s.parameters as u64),
            output::grouped(s.train_rows as u64),
            output::grouped(s.validation_rows as u64),
            output::grouped(s.test_rows as u64),
            s.batch_size
        ),
        format!(
            "data loaded in {:.2} s, compiled in {:.2} s; memory: arena {}, state {}, scratch {} per thread",
            s.load_seconds,
            s.compile_seconds,
            output::bytes(s.arena_bytes),
            output::bytes(s.state_bytes),
            output::bytes(s.scratch_bytes)
        ),
    ]);
    if s.step > 0 {
        lines.push(format!("going on after step {}", output::grouped(s.step)));
    }
    lines
}

fn conclusion(s: &Summary) -> Vec<String> {
    let part = |name: &str| {
        let loss = s.scores.get(&format!("{name}_loss"))?;
        let metric = s.scores.get(&format!("{name}_{}", s.metric))?;
        let score_of = Score { loss: *loss, metric: *metric, ..Score::default() };
        Some(format!("{name} {}", score(&score_of, &s.metric)))
    };
    let parts: Vec<String> = ["validation", "test"].into_iter().filter_map(part).collect();
    let mut lines = vec![format!("{} (weights of epoch {})", parts.join("; "), s.epoch)];
    if s.nonfinite_steps > 0 {
        lines.push(format!("{} steps were not finite and changed nothing", s.nonfinite_steps));
    }
    let waiting = 100.0 * s.data_s / s.wall_s.max(1e-9);
    lines.push(format!("{} steps in {:.1} s, {waiting:.1} % of it waiting for data", output::grouped(s.steps), s.wall_s));
    lines.extend(s.input_bound.iter().map(|bound| bound.message.clone()));
    lines
}

fn score(score: &Score, metric: &str) -> String {
    let other = if metric == "loss" { String::new() } else { format!(" {metric} {}", output::figure(score.metric)) };
    format!("loss {}{other}", output::figure(score.loss))
}

fn warning(event: &Event) -> Option<String> {
    match event {
        Event::Warning { message } => Some(format!("warning: {message}")),
        Event::NonFinite { step, loss, consecutive } => Some(format!(
            "warning: step {step} has a loss ({loss}) or gradients that are not finite; it changed nothing ({consecutive} in a row)"
        )),
        _ => None,
    }
}
