//! The `extauth` program.

use std::io::Read as _;

use clap::Parser as _;
use extauth::method::api_key;
use extauth::settings::{Command, Settings};
use extauth::{server, source};
use miette::{IntoDiagnostic as _, WrapErr as _, miette};

fn main() -> miette::Result<()> {
    let settings = Settings::parse();
    match &settings.command {
        None => {
            let _log = proto::telemetry::init(&settings.log_level, settings.log_format).into_diagnostic()?;
            Ok(server::run(&settings)?)
        }
        Some(Command::HashKey) => hash_key(),
        Some(Command::Validate) => {
            let policies = source::dir::validate(&settings.config_dir)?;
            println!("{policies} policies are valid");
            Ok(())
        }
        Some(Command::Explain { config_dir, question }) => {
            let policies = source::dir::compile(config_dir, &settings.resources())?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().into_diagnostic()?;
            print!("{}", runtime.block_on(question.ask(&policies)).map_err(|error| miette!("{error}"))?);
            Ok(())
        }
    }
}

fn hash_key() -> miette::Result<()> {
    let mut key = String::new();
    std::io::stdin().read_to_string(&mut key).into_diagnostic().wrap_err("reading the key from standard input")?;
    let hash = api_key::hash(key.trim_end_matches(['\r', '\n']))
        .ok_or_else(|| miette!("a key is 1 to {} visible ASCII characters without a comma", api_key::LONGEST_KEY))?;
    println!("{hash}");
    Ok(())
}
