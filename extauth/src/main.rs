//! The `extauth` program.

use std::io::Read as _;
use std::path::Path;

use clap::Parser as _;
use extauth::method::api_key::{Hash, LONGEST_KEY, Pepper};
use extauth::settings::{Command, Settings};
use extauth::{server, source};
use miette::{IntoDiagnostic as _, WrapErr as _, miette};

/// A check takes and frees a few dozen pieces of memory, which costs half as much as with the C library's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> miette::Result<()> {
    let settings = Settings::parse();
    match &settings.command {
        None => {
            let _log = proto::telemetry::init(&settings.log_level, settings.log_format).into_diagnostic()?;
            Ok(server::run(&settings)?)
        }
        Some(Command::HashKey { key_pepper_file }) => hash_key(key_pepper_file.as_deref()),
        Some(Command::Keys { store, key_pepper_file, set, action }) => {
            Ok(extauth::keys::run(&store.storage(), key_pepper_file.as_deref(), set, action.clone())?)
        }
        Some(Command::Tokens { store, action }) => Ok(extauth::tokens::run(&store.storage(), action)?),
        Some(Command::Validate) => {
            let policies = source::dir::validate(&settings.source.config_dir, &settings.keys.options())?;
            println!("{policies} policies are valid");
            Ok(())
        }
        Some(Command::Explain { config_dir, question }) => {
            let policies = source::dir::compile(config_dir, &settings.resources())?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().into_diagnostic()?;
            print!("{}", runtime.block_on(question.ask(&policies)).map_err(|error| miette!("{error}"))?);
            Ok(())
        }
        Some(Command::Sessions(command)) => {
            print!("{}", command.run(&settings)?);
            Ok(())
        }
    }
}

fn hash_key(pepper: Option<&Path>) -> miette::Result<()> {
    let pepper = pepper.map(Pepper::read).transpose().into_diagnostic()?;
    let mut key = String::new();
    std::io::stdin().read_to_string(&mut key).into_diagnostic().wrap_err("reading the key from standard input")?;
    let hash = Hash::of(key.trim_end_matches(['\r', '\n']), pepper.as_ref())
        .ok_or_else(|| miette!("a key is 1 to {LONGEST_KEY} visible ASCII characters without a comma"))?;
    println!("{hash}");
    Ok(())
}
