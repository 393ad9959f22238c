//! The `controller` program: the Gateway API control plane for Envoy.

use std::{ffi::OsString, net::SocketAddr, process::ExitCode};

use clap::{Args, Parser, Subcommand};
use controller::{
    certgen, crds, echo,
    envoy::{child, shutdown},
    error::chain,
    explain, overview, rbac, serve, standalone, translate, validate,
};
use proto::{
    drain,
    serve::{Address, Listener},
    telemetry::{self, Format},
};

/// A translation takes and frees millions of small pieces of memory.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The Gateway API control plane for Envoy
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(flatten)]
    logs: Logs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Args)]
struct Logs {
    /// trace, debug, info, warn or error, or directives such as info,h2=debug
    #[arg(long, env, global = true, help_heading = "Logs", default_value = "info,kube_client=off")]
    log_level: String,
    /// text or json
    #[arg(long, env, global = true, help_heading = "Logs", default_value = "text")]
    log_format: Format,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Put what a Kubernetes API server says onto the Envoys that connect, and write statuses
    Serve(Box<serve::Options>),
    /// Put a folder of manifests onto Envoys on this machine, with rate limits and authorization built in
    Standalone(standalone::Options),
    Translate(translate::Args),
    Explain(explain::Options),
    Status(overview::Options),
    Validate(validate::Options),
    Certgen(certgen::Options),
    /// What runs beside an Envoy in its pod
    #[command(subcommand)]
    Envoy(shutdown::Command),
    /// Print the CRDs of gateway.envoyproxy.io
    Crds,
    Rbac(rbac::Options),
    /// Answer every request with itself, as JSON
    Echo {
        /// Where to listen
        #[arg(long, value_name = "ADDRESS", default_value_t = echo::DEFAULT)]
        listen: SocketAddr,
    },
    #[command(name = child::COMMAND, hide = true)]
    RunChild {
        parent: u32,
        program: OsString,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let _log = match telemetry::init(&cli.logs.log_level, cli.logs.log_format) {
        Ok(log) => log,
        Err(error) => {
            eprintln!("controller: {}", chain(&error));
            return ExitCode::FAILURE;
        }
    };
    let outcome = match cli.command {
        Command::Serve(options) => serve::run(&options).map_err(|error| chain(&error)),
        Command::Standalone(options) => standalone::run(&options).map_err(|error| chain(&error)),
        Command::Translate(args) => translate::run(&args).map_err(|report| format!("{report:?}")),
        Command::Certgen(options) => certgen::run(&options).map_err(|error| chain(&error)),
        Command::Envoy(command) => shutdown::run(&command).map_err(|error| chain(&error)),
        Command::Explain(options) => explain::run(&options).map_err(|error| chain(&error)),
        Command::Status(options) => overview::run(&options).map_err(|error| chain(&error)),
        Command::Validate(options) => validate::run(&options).map_err(|error| chain(&error)),
        Command::Crds => crds::print(&mut std::io::stdout().lock()).map_err(|error| chain(&error)),
        Command::Rbac(rbac::Options {}) => rbac::print(&mut std::io::stdout().lock()).map_err(|error| chain(&error)),
        Command::Echo { listen } => serve_echo(listen).map_err(|error| chain(error.as_ref())),
        Command::RunChild { parent, program, arguments } => {
            let error = child::run(parent, &program, &arguments);
            Err(format!("running {}: {error}", program.display()))
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            eprintln!("controller: {text}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn serve_echo(address: SocketAddr) -> Result<(), Box<dyn std::error::Error>> {
    let listener = Listener::bind(&Address::Tcp(address))?;
    let (trigger, signal) = drain::new();
    tokio::spawn(drain::on_sigterm(trigger));
    Ok(echo::serve(listener, "echo", signal).await?)
}
