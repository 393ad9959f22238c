//! Which Gateways answer, and where.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde::Serialize;
use tokio::{net::TcpStream, sync::watch};

use super::state::{Listener, State};
use crate::ads::Cache;

/// How often a listener that does not take connections yet is tried again.
const RETRY: Duration = Duration::from_millis(50);

/// The answer of `GET /ready` and the content of the ready file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Report {
    /// Every Gateway's Envoy has the latest configuration and takes connections.
    pub(super) ready: bool,
    pub(super) admin: Option<SocketAddr>,
    pub(super) echo: Option<SocketAddr>,
    pub(super) gateways: Vec<Gateway>,
}

/// One Gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Gateway {
    /// `<namespace>/<name>`.
    name: String,
    address: IpAddr,
    ready: bool,
    envoy_pid: Option<u32>,
    listeners: Vec<Listener>,
}

/// Keeps `reports` up to date, for ever. `base` says what never changes.
pub(super) async fn follow(
    base: Report,
    cache: Cache,
    mut states: watch::Receiver<Arc<State>>,
    mut pids: watch::Receiver<BTreeMap<String, u32>>,
    reports: watch::Sender<Report>,
) {
    let mut clients = cache.clients();
    // Without a translation there are no Gateways, which is not the same as Gateways that all answer.
    if states.changed().await.is_err() {
        return;
    }
    loop {
        let (state, pids_now) = (states.borrow_and_update().clone(), pids.borrow_and_update().clone());
        clients.mark_unchanged();
        let mut report = base.clone();
        for (name, gateway) in &state.gateways {
            let is_current = cache.is_current(name);
            report.gateways.push(Gateway {
                name: name.clone(),
                address: gateway.address,
                ready: is_current && accepts_all(gateway.address, &gateway.listeners).await,
                envoy_pid: pids_now.get(name).copied(),
                listeners: gateway.listeners.clone(),
            });
        }
        report.ready = report.gateways.iter().all(|gateway| gateway.ready);
        let is_ready = report.ready;
        reports.send_if_modified(|known| std::mem::replace(known, report.clone()) != report);
        tokio::select! {
            _ = states.changed() => {}
            _ = pids.changed() => {}
            _ = clients.changed() => {}
            () = tokio::time::sleep(RETRY), if !is_ready => {}
        }
    }
}

async fn accepts_all(address: IpAddr, listeners: &[Listener]) -> bool {
    let address = if address.is_unspecified() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { address };
    for listener in listeners.iter().filter(|listener| listener.connects) {
        if TcpStream::connect((address, listener.port)).await.is_err() {
            return false;
        }
    }
    true
}

/// Logs where the Gateways answer once they do, and writes `file` on every change.
pub(super) async fn announce(mut reports: watch::Receiver<Report>, file: Option<PathBuf>) {
    let mut announced = BTreeSet::new();
    while reports.changed().await.is_ok() {
        let report = reports.borrow_and_update().clone();
        if let Some(file) = &file
            && let Err(error) = write(file, &report)
        {
            tracing::error!(file = %file.display(), "writing the ready file: {error}");
        }
        if report.ready {
            let lines: BTreeSet<String> = report.gateways.iter().flat_map(Gateway::lines).collect();
            for line in lines.difference(&announced) {
                tracing::info!("{line}");
            }
            announced = lines;
        }
    }
}

impl Gateway {
    fn lines(&self) -> impl Iterator<Item = String> {
        self.listeners.iter().map(|Listener { name, gateway_port, port, scheme, .. }| {
            let address = SocketAddr::new(self.address, *port);
            format!("Gateway {}, listener {name} (port {gateway_port}) answers on {scheme}://{address}", self.name)
        })
    }
}

/// A reader sees the old content or the new one, and nothing between.
fn write(file: &Path, report: &Report) -> io::Result<()> {
    let mut fresh = file.as_os_str().to_owned();
    fresh.push(".new");
    std::fs::write(&fresh, serde_json::to_vec_pretty(report)?)?;
    std::fs::rename(fresh, file)
}
