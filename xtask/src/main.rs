//! Developer tasks: `cargo xtask tidy`, `cargo xtask commands FILE…`, `cargo xtask accuracy`, `cargo xtask aot`,
//! `cargo xtask data NAME…`.

mod accuracy;
mod aot;
mod commands;
mod data;
mod reference;
mod tidy;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.split_first() {
        Some((task, [])) if task == "tidy" => tidy::run(),
        Some((task, [])) if task == "accuracy" => accuracy::run(),
        Some((task, [])) if task == "aot" => aot::run(false),
        Some((task, [option])) if task == "aot" && option == "--install" => aot::run(true),
        Some((task, [])) if task == "reference" => reference::run(),
        Some((task, files)) if task == "commands" && !files.is_empty() => commands::run(files),
        Some((task, names)) if task == "data" => data::run(names),
        _ => Err("usage: cargo xtask tidy | cargo xtask accuracy | cargo xtask aot [--install] | cargo xtask reference | cargo xtask commands FILE… | cargo xtask data NAME…".into()),
    };
    match result {
        Ok(summary) => {
            println!("{summary}");
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}
