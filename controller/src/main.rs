//! `controller`: the Gateway API control plane for Envoy.

use clap::{Parser, Subcommand};
use controller::translate;

/// The Gateway API control plane for Envoy
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Translate(translate::Args),
}

fn main() -> miette::Result<()> {
    match Cli::parse().command {
        Command::Translate(args) => translate::run(&args),
    }
}
