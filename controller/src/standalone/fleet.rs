//! One Envoy for each Gateway.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use controller_core::{ServiceAddress, ir::Endpoint, xds::bootstrap};
use futures::stream::{FuturesUnordered, StreamExt};
use proto::drain::{self, Signal, Trigger};
use tokio::sync::watch;

use super::state::State;
use crate::envoy::Launch;

/// What all Envoys have in common.
#[derive(Clone, Debug)]
pub(super) struct Fleet {
    /// Envoy's binary.
    pub(super) program: PathBuf,
    /// A folder of ours alone: bootstraps, admin sockets.
    pub(super) run_dir: PathBuf,
    /// The xDS server's socket.
    pub(super) xds: PathBuf,
    /// Where the Envoys' own output goes.
    pub(super) log: Option<PathBuf>,
}

impl Fleet {
    /// Runs an Envoy for each Gateway in the latest state until `stop`, and shows their process ids in `pids`.
    ///
    /// The kernel kills an Envoy when the thread that started it ends, so this has to be polled on the main thread.
    pub(super) async fn run(
        self,
        mut states: watch::Receiver<Arc<State>>,
        pids: watch::Sender<BTreeMap<String, u32>>,
        stop: Signal,
    ) {
        let mut running: BTreeMap<String, Trigger> = BTreeMap::new();
        let mut envoys = FuturesUnordered::new();
        loop {
            let state = states.borrow_and_update().clone();
            // A trigger that is dropped stops its Envoy.
            running.retain(|key, _| state.gateways.contains_key(key));
            for key in state.gateways.keys() {
                if running.contains_key(key) {
                    continue;
                }
                match self.launch(key) {
                    Ok(launch) => {
                        let (trigger, signal) = drain::new();
                        running.insert(key.clone(), trigger);
                        envoys.push(keep_running(launch, signal, &pids));
                    }
                    Err(error) => tracing::error!(gateway = key, "preparing Envoy: {error}"),
                }
            }
            tokio::select! {
                changed = states.changed() => if changed.is_err() { break },
                Some(()) = envoys.next() => {}
                () = stop.clone().wait() => break,
            }
        }
        running.clear();
        while envoys.next().await.is_some() {}
    }

    fn launch(&self, key: &str) -> io::Result<Launch> {
        let name = key.replace('/', "_");
        let bootstrap = self.run_dir.join(format!("{name}.json"));
        let admin = self.run_dir.join(format!("{name}.admin.sock"));
        fs::write(&bootstrap, self.bootstrap(&admin)?)?;
        let open = |path: &PathBuf| OpenOptions::new().create(true).append(true).open(path);
        let log = self.log.as_ref().map(open).transpose()?;
        let (program, key, node) = (self.program.clone(), key.to_owned(), format!("{name}-0"));
        Ok(Launch { program, key, node, bootstrap, admin, log })
    }

    fn bootstrap(&self, admin: &Path) -> io::Result<Vec<u8>> {
        let path = |path: &Path| path.to_string_lossy().into_owned();
        let (xds, admin) = (ServiceAddress::Unix(path(&self.xds)), Endpoint::Unix(path(admin)));
        let json = proto::json::to_json(&bootstrap::bootstrap(&xds, &admin)).map_err(io::Error::other)?;
        Ok(serde_json::to_vec(&json)?)
    }
}

async fn keep_running(launch: Launch, stop: Signal, pids: &watch::Sender<BTreeMap<String, u32>>) {
    let started = |pid: Option<u32>| {
        pids.send_modify(|pids| {
            match pid {
                Some(pid) => pids.insert(launch.key.clone(), pid),
                None => pids.remove(&launch.key),
            };
        });
    };
    launch.keep_running(stop, started).await;
    started(None);
}
