//! `controller explain`: which policy is in force on each match of a route, which lost and why, and what Envoy refuses of it.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use clap::Args;
use controller_core::{Settings, Snapshot, translate, translate::ObjectStatus};
use tokio::time::timeout;

use self::{explanation::Explanation, target::Target};
use crate::{
    cluster::{self, Board},
    echo,
    installation::{self, ApiServer, Installation},
    pods,
    source::Files,
};

mod explanation;
mod limit;
mod target;
mod words;

/// How long the API server may take to list everything.
const PATIENCE: Duration = Duration::from_secs(30);

/// Say which policy won on a route, which lost and why, or where a policy is in force and where not
#[derive(Clone, Debug, Args)]
#[command(allow_missing_positional = true)]
pub struct Options {
    /// Folder with the manifests; without it, the cluster of --kubeconfig is asked for all that the controller reads
    #[arg(conflicts_with = "kubeconfig")]
    directory: Option<PathBuf>,
    /// A route or a policy, `[KIND/][NAMESPACE/]NAME`: an HTTPRoute in `default` unless it says otherwise
    object: Target,
    #[command(flatten)]
    api_server: ApiServer,
    #[command(flatten)]
    installation: Installation,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Why nothing can be explained.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such object.
    #[error("there is no {object} in {place}; {known}")]
    Unknown {
        /// What was asked for.
        object: String,
        /// Where it was looked for.
        place: String,
        /// What there is of its kind.
        known: String,
    },
    /// The system refuses something that every program needs.
    #[error("starting the runtime")]
    Runtime(#[from] std::io::Error),
    /// There is no way to the API server.
    #[error(transparent)]
    ApiServer(#[from] installation::Error),
    /// The API server does not answer as it should.
    #[error("asking the API server for statuses")]
    Statuses(#[from] kube::Error),
    /// The API server does not show everything that the controller would look at.
    #[error(
        "the API server has not listed everything within {} seconds: this needs the rights of the controller, which has them in its pod",
        PATIENCE.as_secs()
    )]
    Incomplete,
    /// Standard output is closed.
    #[error("printing")]
    Print(#[from] serde_json::Error),
}

/// Everything that an explanation is made from.
struct World {
    snapshot: Snapshot,
    settings: Settings,
    /// What could not be read.
    problems: Vec<String>,
    /// Statuses as they stand, where anybody writes them.
    standing: Vec<ObjectStatus>,
    /// Where it is, for people.
    place: String,
}

/// Prints the explanation.
pub fn run(options: &Options) -> Result<(), Error> {
    let world = match &options.directory {
        Some(directory) => from_folder(directory, &options.installation),
        None => tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(from_cluster(options))?,
    };
    let object = options.object.reference();
    let known = options.object.names(&world.snapshot);
    if !known.iter().any(|name| *name == format!("{}/{}", object.namespace, object.name)) {
        let known = if known.is_empty() { "there is none".into() } else { format!("there are: {}", known.join(", ")) };
        return Err(Error::Unknown { object: object.to_string(), place: world.place, known });
    }
    let translation = translate(&world.snapshot, &world.settings);
    let mut explanation = Explanation::new(&object, &translation, &world.standing);
    explanation.problems.extend(world.problems);
    if options.json {
        println!("{}", serde_json::to_string_pretty(&explanation)?);
    } else {
        print!("{explanation}");
    }
    Ok(())
}

fn from_folder(directory: &Path, installation: &Installation) -> World {
    let mut manifests = Files::new(directory).load().unwrap_or_default();
    pods::stand_in(&mut manifests.snapshot, echo::DEFAULT);
    World {
        snapshot: manifests.snapshot,
        settings: Settings { running_on_host: true, ..installation.settings() },
        problems: manifests.problems.iter().map(ToString::to_string).collect(),
        standing: Vec::new(),
        place: directory.display().to_string(),
    }
}

/// Reads what the controller reads, the way it does.
async fn from_cluster(options: &Options) -> Result<World, Error> {
    let client = options.api_server.client().await?;
    let board = Arc::new(Board::new(options.installation.controller_name.clone()));
    let watches = cluster::Options { scope: options.installation.scope(), hold: Duration::ZERO, rediscover: PATIENCE };
    let mut snapshots = cluster::snapshots(client.clone(), board, watches);
    let snapshot = match timeout(PATIENCE, snapshots.wait_for(Option::is_some)).await {
        Ok(Ok(snapshot)) => snapshot.as_deref().cloned().ok_or(Error::Incomplete)?,
        _ => return Err(Error::Incomplete),
    };
    Ok(World {
        snapshot,
        settings: options.installation.settings(),
        problems: Vec::new(),
        standing: cluster::statuses(&client).await?,
        place: "the cluster".into(),
    })
}
