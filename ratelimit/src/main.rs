//! The rate limit service as a program.

use std::{env, path::Path, process::ExitCode};

use clap::CommandFactory as _;
use miette::{IntoDiagnostic, Report, miette};
use ratelimit::{
    config::Domains,
    server,
    settings::{self, Command, Page, Settings},
    source::dir::{self, Error},
};

fn main() -> miette::Result<ExitCode> {
    let settings = match Settings::read(env::args_os()) {
        Ok(settings) => settings,
        Err(settings::Error::Arguments(error)) => error.exit(),
        Err(error) => return Err(error).into_diagnostic(),
    };
    let _log = proto::telemetry::init(&settings.log.log_level, settings.log.log_format).into_diagnostic()?;
    match &settings.command {
        Some(Command::Check { dir, config_dir, merge_domain_configs }) => {
            let domains = if *merge_domain_configs { Domains::Merged } else { Domains::Distinct };
            return Ok(dir.iter().chain(config_dir).map(|dir| check(dir, domains)).next().unwrap_or(ExitCode::FAILURE));
        }
        Some(Command::Settings) => {
            print!("{}", Page::of(&Settings::command()));
            return Ok(ExitCode::SUCCESS);
        }
        None => {}
    }
    server::run(&settings).into_diagnostic()?;
    Ok(ExitCode::SUCCESS)
}

/// Shows the place in each file where a person must look.
fn check(dir: &Path, domains: Domains) -> ExitCode {
    match dir::check(&dir.into(), domains) {
        Ok(config) => {
            print!("{}", config.dump());
            ExitCode::SUCCESS
        }
        Err(errors) => {
            for error in errors {
                let report = match error {
                    Error::Config(error) => Report::new(error),
                    error => miette!("{error}"),
                };
                eprintln!("{report:?}");
            }
            ExitCode::FAILURE
        }
    }
}
