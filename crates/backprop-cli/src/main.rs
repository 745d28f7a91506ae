//! The `backprop` program: arguments and printing only; everything else is the library's.

mod args;
mod bench;
mod compare;
mod device;
mod devices;
mod eval;
mod failure;
mod init;
mod inspect;
mod output;
mod predict;
mod schema;
mod signals;
mod train;
mod view;

use args::{Arguments, Command};
use backprop::core::exec::native::return_freed_blocks;
use clap::Parser;
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
};

fn main() -> ExitCode {
    return_freed_blocks();
    let arguments = Arguments::parse();
    let run = || match arguments.command {
        Command::Init(options) => init::run(&options),
        Command::Train(options) => train::run(&options),
        Command::Eval(options) => eval::run(&options),
        Command::Predict(options) => predict::run(&options),
        Command::Generate(options) => predict::generate(&options),
        Command::Compare(options) => compare::run(&options),
        Command::Inspect(options) => inspect::run(&options),
        Command::Bench(command) => bench::run(&command),
        Command::Devices(options) => devices::run(&options),
        Command::Schema(options) => schema::run(&options),
        Command::Probe(options) => devices::probe(&options),
    };
    // The panic hook has printed what happened; here it only becomes the documented exit code.
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(failure)) => failure.report(),
        Err(_) => ExitCode::from(failure::INTERNAL),
    }
}
