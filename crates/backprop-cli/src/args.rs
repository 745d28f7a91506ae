//! The command line.

use crate::{device, devices, failure::Failure};
use backprop::{accelerator::DeviceName, config::Time, core::Isa, machine};
use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

const EXIT_CODES: &str = "Exit codes:
  0    done
  1    training diverged, or an internal error
  2    the input is at fault: arguments, configuration, data, files
  3    the time given by --max-time or train.max_time is over; go on with --resume
  129  stopped by SIGHUP, the end of its terminal  } at a step's end, with a checkpoint;
  130  stopped by SIGINT, which is Ctrl-C          } go on with --resume;
  143  stopped by SIGTERM                          } a second Ctrl-C ends at once";

/// Trains neural networks on your own data and uses them. Begin with `backprop init DATA`.
#[derive(Parser)]
#[command(name = "backprop", version, after_help = EXIT_CODES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Look at your own data and write a configuration for them
    #[command(after_help = EXIT_CODES)]
    Init(InitOptions),
    /// Train a network; without CONFIG a CNN on the embedded Fashion-MNIST
    #[command(after_help = EXIT_CODES)]
    Train(TrainOptions),
    /// Measure the weights that a run kept
    #[command(after_help = EXIT_CODES)]
    Eval(EvalOptions),
    /// Apply a trained model to raw input: CSV rows, images, texts, arrays
    #[command(after_help = EXIT_CODES)]
    Predict(PredictOptions),
    /// Let a model of text go on with a prompt
    #[command(after_help = EXIT_CODES)]
    Generate(GenerateOptions),
    /// Set runs side by side: what differs in their configurations, and how they came out
    #[command(after_help = EXIT_CODES)]
    Compare(CompareOptions),
    /// Show what a network is and needs, before anything runs
    #[command(after_help = EXIT_CODES)]
    Inspect(InspectOptions),
    /// Measure the training step of a configuration, single kernels, or this machine; write what other programs need to measure the same
    #[command(subcommand)]
    Bench(BenchCommand),
    /// List what this program can compute on here
    Devices(DevicesOptions),
    /// Print the JSON schema of configurations, for editors
    Schema(SchemaOptions),
    /// Load a plugin and print what it is: what this program starts itself for
    #[command(name = devices::PROBE, hide = true)]
    Probe(ProbeOptions),
}

#[derive(Args)]
pub(crate) struct InitOptions {
    /// A CSV file, a folder with a sub-folder of images for each class, a text, or IDX images
    #[arg(value_name = "DATA")]
    pub(crate) data: PathBuf,
    /// The column to predict, for tables [default: the last]
    #[arg(long, value_name = "COLUMN")]
    pub(crate) target: Option<String>,
    /// Whether the target is a class or a quantity, for tables [default: found by its values]
    #[arg(long, value_name = "TASK")]
    pub(crate) task: Option<TaskName>,
    /// File of the configuration [default: NAME-OF-DATA.toml here]
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// Overwrite the file
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum TaskName {
    /// The target is one of several classes
    Classification,
    /// The target is a quantity
    Regression,
}

#[derive(Args)]
pub(crate) struct TrainOptions {
    /// Configuration in TOML
    #[arg(value_name = "CONFIG.toml")]
    pub(crate) config: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) set: SetOptions,
    /// Folder of the run; must not exist yet [default: runs/MODEL-NUMBER]
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Seed of everything random, instead of train.seed
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64))]
    pub(crate) seed: Option<u64>,
    /// Go on with a run that was interrupted, to the same result as if it had not been; with --set for how long and how it runs
    #[arg(long, value_name = "RUN", conflicts_with_all = ["config", "out", "seed"])]
    pub(crate) resume: Option<PathBuf>,
    /// Stop after this time, data loading included, with a checkpoint to go on from: 90s, 30m, 2h, 1h30m
    #[arg(long, value_name = "TIME")]
    pub(crate) max_time: Option<Time>,
    #[command(flatten)]
    pub(crate) device: DeviceOptions,
    /// Print one JSON object per event
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct SetOptions {
    /// Replace a value of the configuration, as in --set layers.0.out_channels=64
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
}

#[derive(Args, Clone)]
pub(crate) struct DeviceOptions {
    /// What to compute on: cpu, cuda, rocm, tpu or pjrt:/path/plugin.so; `backprop devices` lists what is here [default: cpu]
    #[arg(long, value_name = "NAME")]
    pub(crate) device: Option<DeviceName>,
    /// How many devices of that kind share each batch [default: 1]
    #[arg(long, value_name = "N", value_parser = count)]
    pub(crate) devices: Option<usize>,
    /// Threads of the cpu [default: all that this process may use]; the result does not depend on it
    #[arg(long, value_name = "N", value_parser = count)]
    pub(crate) threads: Option<usize>,
    /// Instruction set of the cpu [default: the best there is]; avx2 and avx512 give the same result
    #[arg(long, value_name = "ISA")]
    pub(crate) isa: Option<IsaName>,
    /// How exactly an accelerator forms products of f32 [default: highest]; tf32 rounds operands to 10 bits on NVIDIA, and is faster
    #[arg(long, value_name = "NAME")]
    pub(crate) precision: Option<PrecisionName>,
}

/// A whole number of 1 or more.
fn count(text: &str) -> Result<usize, &'static str> {
    text.parse().ok().filter(|n| *n > 0).ok_or("must be a whole number of 1 or more")
}

#[derive(Clone, Copy, PartialEq, Eq, Default, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum PrecisionName {
    /// Full f32
    #[default]
    Highest,
    /// What the device takes for fast
    Tf32,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum IsaName {
    Portable,
    Avx2,
    Avx512,
}

#[derive(Args)]
pub(crate) struct EvalOptions {
    /// Folder of a run
    #[arg(value_name = "RUN")]
    pub(crate) run: PathBuf,
    #[command(flatten)]
    pub(crate) device: DeviceOptions,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct PredictOptions {
    /// Folder of a run
    #[arg(value_name = "RUN")]
    pub(crate) run: PathBuf,
    /// Files of the kind the model was trained on; none or - reads one from standard input
    #[arg(value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Form of the output [default: table on a terminal, else csv]
    #[arg(long, value_name = "FORM")]
    pub(crate) format: Option<Format>,
    /// Write to a file instead of standard output
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// Show this many of the likeliest classes
    #[arg(long, value_name = "N", value_parser = count)]
    pub(crate) top: Option<usize>,
    /// In CSV, give the probability of every class
    #[arg(long)]
    pub(crate) probabilities: bool,
    #[command(flatten)]
    pub(crate) device: DeviceOptions,
}

/// Form of predictions.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Columns for people
    Table,
    /// A header and one line per sample
    Csv,
    /// One JSON object per sample
    Jsonl,
}

#[derive(Args)]
pub(crate) struct GenerateOptions {
    /// Folder of a run
    #[arg(value_name = "RUN")]
    pub(crate) run: PathBuf,
    /// The text to go on with
    #[arg(long, value_name = "TEXT", default_value = "\n")]
    pub(crate) prompt: String,
    /// Tokens to generate
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub(crate) length: usize,
    /// Below 1 the likely becomes likelier; 0 always takes the likeliest
    #[arg(long, value_name = "T", default_value_t = 1.0, allow_negative_numbers = true)]
    pub(crate) temperature: f64,
    /// Draw among this many likeliest tokens only
    #[arg(long, value_name = "K", value_parser = count)]
    pub(crate) top_k: Option<usize>,
    /// Seed of the draws [default: 0]
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    #[command(flatten)]
    pub(crate) device: DeviceOptions,
}

#[derive(Args)]
pub(crate) struct CompareOptions {
    /// Folders of runs, finished or not
    #[arg(value_name = "RUN", required = true)]
    pub(crate) runs: Vec<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct InspectOptions {
    /// Configuration in TOML; without it the network that `train` trains by default
    #[arg(value_name = "CONFIG.toml")]
    pub(crate) config: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) set: SetOptions,
    /// Rows per step [default: those of the configuration]
    #[arg(long, value_name = "N", value_parser = count)]
    pub(crate) batch: Option<usize>,
    /// Print the training graph before and after a pass instead
    #[arg(long, value_name = "NAME")]
    pub(crate) pass: Option<String>,
    /// Print the StableHLO text of the training step instead, as accelerators are given it; none need be here
    #[arg(long, conflicts_with_all = ["pass", "json", "device", "threads", "isa"])]
    pub(crate) stablehlo: bool,
    #[command(flatten)]
    pub(crate) device: DeviceOptions,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Subcommand)]
pub(crate) enum BenchCommand {
    /// Time the training step: forward, loss, backward and update, on inputs handed over from host memory every time
    #[command(after_help = EXIT_CODES)]
    Step(BenchStepOptions),
    /// Write the first values of all weights and the first batches, for other programs to begin from
    #[command(after_help = EXIT_CODES)]
    Export(BenchExportOptions),
    /// Time single kernels on the shapes of training steps, as shares of what the processor can do at most
    #[command(after_help = EXIT_CODES)]
    Kernels(BenchKernelsOptions),
    /// Measure what the processor can do at most: arithmetic in f32, and memory
    #[command(after_help = EXIT_CODES)]
    Machine(BenchMachineOptions),
}

#[derive(Args)]
pub(crate) struct ProcessorOptions {
    /// Threads [default: all that this process may use]
    #[arg(long, value_name = "N", value_parser = count)]
    threads: Option<usize>,
    /// Instruction set [default: the best there is]
    #[arg(long, value_name = "ISA")]
    isa: Option<IsaName>,
}

impl ProcessorOptions {
    /// The instruction set and the number of threads.
    pub(crate) fn resolve(&self) -> Result<(Isa, usize), Failure> {
        Ok((device::instruction_set(self.isa)?, self.threads.unwrap_or_else(machine::threads)))
    }
}

#[derive(Args)]
pub(crate) struct BenchMachineOptions {
    #[command(flatten)]
    pub(crate) processor: ProcessorOptions,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct BenchKernelsOptions {
    /// Only these kernels [default: all]
    #[arg(value_name = "GROUP")]
    pub(crate) group: Option<KernelGroup>,
    #[command(flatten)]
    pub(crate) processor: ProcessorOptions,
    /// How long each kernel runs
    #[arg(long, value_name = "S", value_parser = seconds, default_value = "0.1")]
    pub(crate) seconds: f64,
    /// Print one JSON object per kernel
    #[arg(long)]
    pub(crate) json: bool,
}

/// Kernels that belong together.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum KernelGroup {
    /// Of matrices, in all forms of their operands
    Product,
    /// Of images, forward and the gradients of input and kernel
    Convolution,
    /// The same, each channel by itself
    Depthwise,
    /// In order, and transposed
    Copy,
    /// Sums of rows, columns and all
    Reduction,
    /// Chains of functions of each element
    Elementwise,
    /// Of rows, forward and with its gradient
    Softmax,
    /// Of rows of scores, forward and with its gradient
    CrossEntropy,
    /// Of rows, forward and with its gradients
    LayerNorm,
    /// Rows of a table, looked up and added up
    Embedding,
}

impl KernelGroup {
    /// Its name among the kernels.
    pub(crate) fn name(self) -> &'static str {
        match self {
            KernelGroup::Product => "product",
            KernelGroup::Convolution => "convolution",
            KernelGroup::Depthwise => "depthwise",
            KernelGroup::Copy => "copy",
            KernelGroup::Reduction => "reduction",
            KernelGroup::Elementwise => "elementwise",
            KernelGroup::Softmax => "softmax",
            KernelGroup::CrossEntropy => "cross-entropy",
            KernelGroup::LayerNorm => "layer-norm",
            KernelGroup::Embedding => "embedding",
        }
    }
}

#[derive(Args)]
pub(crate) struct BenchStepOptions {
    /// Configuration in TOML; without it the one that `train` trains by default
    #[arg(value_name = "CONFIG.toml")]
    pub(crate) config: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) set: SetOptions,
    /// Rows per step [default: those of the configuration]
    #[arg(long, value_name = "N", value_parser = count)]
    pub(crate) batch: Option<usize>,
    /// Begin from these parameters and statistics instead of the first values for the seed
    #[arg(long, value_name = "FILE.safetensors")]
    pub(crate) weights: Option<PathBuf>,
    /// Go round these batches, `x` and `y` of [batches, rows, …], instead of the first ones of training
    #[arg(long, value_name = "FILE.npz")]
    pub(crate) data: Option<PathBuf>,
    /// Drop nothing, wherever the network has dropout, so that losses can be compared with other programs'
    #[arg(long)]
    pub(crate) no_dropout: bool,
    /// Time at least this many steps, after 10 whose losses are compared and 10 or more to warm up
    #[arg(long, value_name = "N", value_parser = count, conflicts_with = "seconds")]
    pub(crate) steps: Option<usize>,
    /// Time steps for this long
    #[arg(long, value_name = "S", value_parser = seconds, default_value = "5")]
    pub(crate) seconds: f64,
    #[command(flatten)]
    pub(crate) device: DeviceOptions,
    /// Measure how long each kernel takes, too: where the time of a step on the cpu goes
    #[arg(long)]
    pub(crate) profile: bool,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
    /// Answer requests in JSON, one a line on standard input: {"model": FILE}, {"losses": N}, {"window": SECONDS, "steps": N}
    #[arg(long, conflicts_with_all = ["config", "set", "batch", "weights", "data", "no_dropout", "steps", "seconds", "profile", "json"])]
    pub(crate) serve: bool,
}

/// Seconds above 0.
fn seconds(text: &str) -> Result<f64, &'static str> {
    text.parse().ok().filter(|s| *s > 0.0 && *s <= 1e6).ok_or("must be a number of seconds above 0")
}

#[derive(Args)]
pub(crate) struct BenchExportOptions {
    /// Configuration in TOML; without it the one that `train` trains by default
    #[arg(value_name = "CONFIG.toml")]
    pub(crate) config: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) set: SetOptions,
    /// Folder for weights.safetensors and data.npz
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// How many batches
    #[arg(long, value_name = "N", value_parser = count, default_value_t = backprop::bench::BATCHES)]
    pub(crate) batches: usize,
}

#[derive(Args)]
pub(crate) struct DevicesOptions {
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct ProbeOptions {
    /// The plugin
    #[arg(value_name = "PATH")]
    pub(crate) path: PathBuf,
}

#[derive(Args)]
pub(crate) struct SchemaOptions {
    /// Print the configuration reference in Markdown instead
    #[arg(long)]
    pub(crate) markdown: bool,
}
