//! The command line of the load generator.

use std::fs;
use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use loadtest::address::Address;
use loadtest::compare::Comparison;
use loadtest::credentials;
use loadtest::floor;
use loadtest::plot;
use loadtest::process;
use loadtest::report::Report;
use loadtest::run;
use loadtest::settings::Load;
use loadtest::target::Target;
use loadtest::target::authz::{self, Authz};
use loadtest::target::http::{self, Http};
use loadtest::target::rls::{self, Rls};
use loadtest::translation;
use loadtest::world;
use loadtest::xds;

/// As in the programs that are measured: `translation` does their work in this process.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures Tollgate's services: open and closed loop, percentiles without coordinated omission, A against B.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Load a rate limit service
    #[command(args_override_self = true)]
    Rls(Box<LoadArgs<rls::Settings>>),
    /// Load an external authorization service
    #[command(args_override_self = true)]
    Authz(Box<LoadArgs<authz::Settings>>),
    /// Load a web server or proxy with GET requests over HTTP/2
    #[command(args_override_self = true)]
    Http(Box<LoadArgs<http::Settings>>),
    /// Make credentials for `authz` beforehand, and the policy that accepts them
    Credentials(CredentialsArgs),
    /// Say what verifying one of the tokens of `credentials` takes without any server, in microseconds of CPU time
    Verify(VerifyArgs),
    /// Say what the controller's translation of many routes costs, from cold and after one change
    Translation(TranslationArgs),
    /// Play many Envoys of `controller serve` and change what is in its API server
    Xds(Box<XdsArgs>),
    /// Serve answers without looking, to compare with
    Floor(FloorArgs),
    /// Draw what `make bench` has measured
    Plot(PlotArgs),
}

#[derive(Debug, clap::Args)]
struct LoadArgs<R: clap::Args> {
    /// The server: `http://host:port` or `unix:/path`
    address: Address,
    /// The server's process; without it, whoever listens at the address
    #[arg(long)]
    pid: Option<u32>,
    /// A second server; both are loaded in turn, and the ratio of their medians is printed
    #[arg(long, value_name = "ADDRESS")]
    vs: Option<Address>,
    /// The second server's process
    #[arg(long, requires = "vs")]
    vs_pid: Option<u32>,
    /// Another process whose cost is reported, such as the store that the servers share; may be repeated
    #[arg(long, value_name = "NAME=PID")]
    also_pid: Vec<process::Named>,
    /// How often each of the two is loaded
    #[arg(long, default_value = "5", requires = "vs")]
    rounds: NonZeroUsize,
    /// Exit with 1 if the first server's CPU time for an answer is more than so many times the second's
    #[arg(long, value_name = "RATIO", requires = "vs")]
    max_cpu_ratio: Option<f64>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Load servers on other machines too
    #[arg(long)]
    allow_remote: bool,
    #[command(flatten)]
    requests: R,
    #[command(flatten)]
    load: Load,
}

#[derive(Debug, clap::Args)]
struct CredentialsArgs {
    /// Which credentials
    #[arg(value_enum)]
    kind: credentials::Kind,
    /// How many
    #[arg(long, default_value = "1000")]
    count: NonZeroU32,
    /// Where sessions are put, as a `redis://` or `unix://` URL
    #[arg(long, value_name = "URL", required_if_eq("kind", "session"))]
    redis: Option<String>,
    /// The folder: a line for each credential in `credentials`, and what `extauth` reads in `policies`
    #[arg(long)]
    out: PathBuf,
}

#[derive(Debug, clap::Args)]
struct VerifyArgs {
    /// The folder that `credentials` has written
    dir: PathBuf,
}

#[derive(Debug, clap::Args)]
struct TranslationArgs {
    /// Number of routes, each with policies of its own
    #[arg(long, default_value = "10000")]
    routes: NonZeroUsize,
    /// Where their requests go
    #[arg(long, value_enum, default_value = "backend")]
    backends: world::Backends,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct XdsArgs {
    #[command(flatten)]
    settings: xds::Settings,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct FloorArgs {
    /// Which server
    #[arg(long, value_enum)]
    kind: floor::Kind,
    /// Address and port to listen on
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Where the redis floor counts, as a `redis://` or `unix://` URL
    #[arg(long, value_name = "URL", required_if_eq("kind", "redis"))]
    redis: Option<String>,
}

#[derive(Debug, clap::Args)]
struct PlotArgs {
    /// The results, as JSON
    results: PathBuf,
    /// The picture, as SVG
    #[arg(long)]
    out: PathBuf,
}

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Address(#[from] loadtest::address::Error),
    #[error(transparent)]
    Rls(#[from] rls::Error),
    #[error(transparent)]
    Authz(#[from] authz::Error),
    #[error(transparent)]
    Http(#[from] http::Error),
    #[error(transparent)]
    Credentials(#[from] credentials::Error),
    #[error(transparent)]
    Translation(#[from] translation::Error),
    #[error(transparent)]
    Xds(#[from] xds::Error),
    #[error(transparent)]
    Run(#[from] run::Error),
    #[error(transparent)]
    Floor(#[from] floor::Error),
    #[error("cannot start the runtime: {0}")]
    Runtime(std::io::Error),
    #[error("cannot write the report: {0}")]
    Report(#[from] serde_json::Error),
    #[error("cannot draw {}: {source}", path.display())]
    Plot { path: PathBuf, source: std::io::Error },
    #[error("no request to {0} was answered")]
    NoAnswer(String),
    #[error("the CPU time of a process is not known: give --pid and --vs-pid")]
    CpuUnknown,
    #[error("{0:.2} times the CPU time for an answer is above the bound of {1}")]
    CpuRatio(f64, f64),
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Rls(args) => load(&args, |address| Ok(Rls::new(address, &args.requests)?)),
        Command::Authz(args) => load(&args, |address| Ok(Authz::new(address, &args.requests)?)),
        Command::Http(args) => load(&args, |address| Ok(Http::new(address, &args.requests)?)),
        Command::Credentials(args) => make(&args),
        Command::Verify(args) => verify(&args),
        Command::Translation(args) => translate(&args),
        Command::Xds(args) => discover(&args),
        Command::Floor(args) => serve_floor(&args),
        Command::Plot(args) => draw(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("loadtest: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve_floor(args: &FloorArgs) -> Result<(), Error> {
    Ok(args.kind.runtime()?.block_on(async {
        let listener = floor::listen(args.listen).await?;
        if let Ok(address) = listener.local_addr() {
            println!("listening on http://{address}");
        }
        args.kind.serve(listener, args.redis.as_deref()).await
    })?)
}

fn make(args: &CredentialsArgs) -> Result<(), Error> {
    Ok(credentials::write(args.kind, args.count, args.redis.as_deref(), &args.out)?)
}

fn verify(args: &VerifyArgs) -> Result<(), Error> {
    println!("{:.2}", credentials::verify(&args.dir)?);
    Ok(())
}

fn translate(args: &TranslationArgs) -> Result<(), Error> {
    print(&translation::measure(args.routes.get(), args.backends)?, args.json)
}

fn discover(args: &XdsArgs) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Runtime)?;
    print(&runtime.block_on(xds::run(&args.settings))?, args.json)
}

fn draw(args: &PlotArgs) -> Result<(), Error> {
    let at = |path: &Path, source| Error::Plot { path: path.to_owned(), source };
    let text = fs::read_to_string(&args.results).map_err(|source| at(&args.results, source))?;
    let results: plot::Results = serde_json::from_str(&text).map_err(|error| at(&args.results, error.into()))?;
    fs::write(&args.out, results.to_string()).map_err(|source| at(&args.out, source))
}

/// Loads one server or two with what `target` makes for their addresses.
fn load<R, T>(args: &LoadArgs<R>, target: impl Fn(&Address) -> Result<T, Error>) -> Result<(), Error>
where
    R: clap::Args,
    T: Target,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Runtime)?;
    let one = |address: &Address, pid: Option<u32>| -> Result<Report, Error> {
        if !args.allow_remote {
            address.require_local()?;
        }
        let pid = pid.or_else(|| process::listener(address));
        let report = runtime.block_on(run::run(target(address)?, address, &args.load, pid, &args.also_pid))?;
        if report.answered() == 0 {
            eprintln!("{report}");
            return Err(Error::NoAnswer(report.address));
        }
        Ok(report)
    };
    let Some(vs) = &args.vs else {
        return print(&one(&args.address, args.pid)?, args.json);
    };
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for round in 1..=args.rounds.get() {
        for (name, address, pid, reports) in [("A", &args.address, args.pid, &mut a), ("B", vs, args.vs_pid, &mut b)] {
            if !args.load.quiet {
                eprintln!("round {round} of {}: {name} = {address}", args.rounds);
            }
            reports.push(one(address, pid)?);
        }
    }
    let comparison = Comparison::new(&a, &b);
    print(&comparison, args.json)?;
    check(args.max_cpu_ratio, comparison.server_cpu_ratio())
}

fn print(result: &(impl serde::Serialize + std::fmt::Display), json: bool) -> Result<(), Error> {
    if json {
        println!("{}", serde_json::to_string_pretty(result)?);
    } else {
        println!("{result}");
    }
    Ok(())
}

fn check(bound: Option<f64>, ratio: Option<f64>) -> Result<(), Error> {
    let Some(bound) = bound else { return Ok(()) };
    let ratio = ratio.ok_or(Error::CpuUnknown)?;
    if ratio > bound { Err(Error::CpuRatio(ratio, bound)) } else { Ok(()) }
}
