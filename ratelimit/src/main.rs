//! The rate limit service as a program.

use clap::Parser;
use miette::{IntoDiagnostic, Report};
use ratelimit::{
    server,
    settings::Settings,
    source::dir::{self, Error},
};

fn main() -> miette::Result<()> {
    let settings = Settings::parse();
    proto::telemetry::init(&settings.log_level, settings.log_format).into_diagnostic()?;
    if settings.check {
        return check(&settings);
    }
    server::run(&settings).into_diagnostic()
}

/// Shows the place in the file where a person must look.
fn check(settings: &Settings) -> miette::Result<()> {
    match dir::read_config(&settings.config_dir()) {
        Ok(config) => {
            print!("{}", config.dump());
            Ok(())
        }
        Err(Error::Config(error)) => Err(Report::new(error)),
        Err(error) => Err(error).into_diagnostic(),
    }
}
