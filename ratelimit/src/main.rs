//! The rate limit service as a program.

use std::{env, path::Path, process::ExitCode};

use clap::CommandFactory as _;
use jiff::Timestamp;
use miette::{IntoDiagnostic, Report, miette};
use ratelimit::{
    config::Domains,
    explain, overrides, server,
    settings::{self, Command, Explain, Output, Page, Settings},
    source::dir::{self, Error},
    store::redis::{self, doctor::Status},
};
use tokio::runtime;

/// A request takes and frees a few dozen pieces of memory, which costs half as much as with the C library's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

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
        Some(Command::Explain(arguments)) => return explain(&settings, arguments),
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
            errors.into_iter().for_each(report);
            ExitCode::FAILURE
        }
    }
}

fn report(error: Error) {
    let report = match error {
        Error::Config(error) => Report::new(error),
        error => miette!("{error}"),
    };
    eprintln!("{report:?}");
}

/// Asks a running instance about a request, or reads files.
fn explain(settings: &Settings, arguments: &Explain) -> miette::Result<ExitCode> {
    let (request, as_json) = (arguments.request(), arguments.output == Output::Json);
    let Some(dir) = &arguments.dir else {
        let url = arguments.url.clone().unwrap_or_else(|| settings.debug_url());
        let runtime = runtime::Builder::new_current_thread().enable_all().build().into_diagnostic()?;
        println!("{}", runtime.block_on(explain::ask(&url, &request, as_json)).into_diagnostic()?.trim_end());
        return Ok(ExitCode::SUCCESS);
    };
    let overrides = settings.tuning.overrides_dir().map(|dir| overrides::check(&dir.into())).transpose();
    let config = dir::check(&dir.as_path().into(), settings.source.domains());
    let (config, overrides) = match (config, overrides) {
        (Ok(config), Ok(overrides)) => (config, overrides.unwrap_or_default()),
        (config, overrides) => {
            config.err().unwrap_or_default().into_iter().chain(overrides.err()).for_each(report);
            return Ok(ExitCode::FAILURE);
        }
    };
    let config = overrides.over(config, Timestamp::now());
    let explanation = explain::without_counts(&config, &request, &settings.options()).into_diagnostic()?;
    if as_json {
        println!("{}", serde_json::to_string(&explanation).into_diagnostic()?);
    } else {
        print!("{explanation}");
    }
    Ok(ExitCode::SUCCESS)
}
