//! The rate limit service as a program.

use std::{env, path::Path, process::ExitCode};

use clap::CommandFactory as _;
use miette::{IntoDiagnostic, Report, miette};
use ratelimit::{
    config::Domains,
    server,
    settings::{self, Command, Output, Page, Settings},
    source::dir::{self, Error},
    store::redis::{self, doctor::Status},
};
use tokio::runtime;

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
        Some(Command::Doctor { output }) => return doctor(&settings, *output),
        None => {}
    }
    server::run(&settings).into_diagnostic()?;
    Ok(ExitCode::SUCCESS)
}

/// Looks for settings of Redis that break limits.
fn doctor(settings: &Settings, output: Output) -> miette::Result<ExitCode> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build().into_diagnostic()?;
    let findings = runtime.block_on(redis::doctor::examine(settings.redis())).into_diagnostic()?;
    match output {
        Output::Json => println!("{}", serde_json::to_string_pretty(&findings).into_diagnostic()?),
        Output::Text => findings.iter().for_each(|finding| println!("{finding}")),
    }
    let fails = findings.iter().any(|finding| finding.status == Status::Fail);
    Ok(if fails { ExitCode::FAILURE } else { ExitCode::SUCCESS })
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
