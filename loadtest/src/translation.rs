//! What the controller's translation costs, in this process: from cold, and after one change.

use std::fmt;
use std::time::Duration;

use controller_core::snapshot::ObjectError;
use controller_core::{Memo, Settings, Snapshot, Translation};
use serde::Serialize;

use crate::process::{self, Usage};
use crate::report::count;
use crate::world::{self, Backends, World};

/// Why there are no figures.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A defect of the generator.
    #[error("an object of the world cannot be read")]
    Object(#[from] ObjectError),
    /// The generator's own text is none.
    #[error("a manifest of the world is no JSON")]
    Manifest(#[from] serde_json::Error),
    /// No CPU time without `/proc`.
    #[error("measuring this process")]
    Process(#[from] process::Error),
}

/// The figures of one world. Times are CPU time, in milliseconds.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Routes in the world.
    pub routes: usize,
    /// Objects of all kinds.
    pub objects: usize,
    /// From JSON to the snapshot.
    pub parse_ms: f64,
    /// From the snapshot to all that is served, with nothing known before.
    pub cold_ms: f64,
    /// The same after one route has changed; the median of several.
    pub route_change_ms: f64,
    /// The same after one endpoint has changed.
    pub endpoint_change_ms: f64,
    /// xDS resources that differ after one change, at most.
    pub changed_resources: usize,
    /// Bytes of all xDS resources.
    pub served_bytes: usize,
    /// Memory that the process holds after all of it.
    pub rss_mib: f64,
}

/// Changes of each kind that are measured.
const CHANGES: u64 = 9;

/// Measures one world.
pub fn measure(routes: usize, backends: Backends) -> Result<Report, Error> {
    let world = World { routes, backends };
    let settings = Settings { backend: true, ..Settings::default() };
    let objects = World::shared().into_iter().chain(world.objects());
    let manifests: Vec<String> = objects.map(|object| object.to_string()).collect();
    let number = manifests.len();

    let mut snapshot = Snapshot::default();
    let parse = cpu(|| {
        for manifest in manifests {
            snapshot.insert(serde_json::from_str(&manifest)?)?;
        }
        Ok::<_, Error>(())
    })?;
    parse.0?;
    let mut memo = Memo::default();
    let (mut before, cold) = cpu(|| memo.translate(&snapshot, &settings))?;
    let mut change = |object: serde_json::Value| -> Result<(Duration, usize), Error> {
        snapshot.insert(object)?;
        let (after, time) = cpu(|| memo.translate(&snapshot, &settings))?;
        let changed = changed(&before, &after);
        // What was served before goes as well, which takes its time.
        let ((), drop_time) = cpu(|| before = after)?;
        Ok((time + drop_time, changed))
    };
    let (mut of_routes, mut of_endpoints, mut changed) = (Vec::new(), Vec::new(), 0);
    for revision in 1..=CHANGES {
        let index = usize::try_from(revision).unwrap_or(0) * 7919 % routes;
        let (time, resources) = change(world.route(index, revision))?;
        of_routes.push(time);
        changed = changed.max(resources);
        let endpoint = match backends {
            Backends::Backend => world::backend(index, revision),
            Backends::Service => world::slice(index, revision),
        };
        let (time, resources) = change(endpoint)?;
        of_endpoints.push(time);
        changed = changed.max(resources);
    }
    let rss = Usage::read(std::process::id())?.rss_bytes;
    Ok(Report {
        routes,
        objects: number,
        parse_ms: ms(parse.1),
        cold_ms: ms(cold),
        route_change_ms: median(of_routes),
        endpoint_change_ms: median(of_endpoints),
        changed_resources: changed,
        served_bytes: bytes(&before),
        rss_mib: count(rss) / f64::from(1 << 20),
    })
}

fn cpu<T>(work: impl FnOnce() -> T) -> Result<(T, Duration), Error> {
    let start = process::thread_cpu()?;
    let done = work();
    Ok((done, process::thread_cpu()?.saturating_sub(start)))
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times.get(times.len() / 2).copied().map_or(0.0, ms)
}

/// Resources that are new or others than before.
fn changed(before: &Translation, after: &Translation) -> usize {
    let of_proxy = |(key, proxy): (&String, &controller_core::translate::Proxy)| {
        let old = before.proxies.get(key);
        let differs = |kind, name: &str, version: &str| {
            let known = old.and_then(|old| old.resources.find(kind, name));
            known.is_none_or(|known| known.version != version)
        };
        let kinds = controller_core::xds::Type::ALL.into_iter();
        let of_kind = |kind| proxy.resources.of(kind).filter(|(name, new)| differs(kind, name, &new.version)).count();
        kinds.map(of_kind).sum::<usize>()
    };
    after.proxies.iter().map(of_proxy).sum()
}

fn bytes(translation: &Translation) -> usize {
    let kinds = controller_core::xds::Type::ALL;
    let of_kind = |proxy: &controller_core::translate::Proxy, kind| -> usize {
        proxy.resources.of(kind).map(|(_, resource)| resource.any.value.len()).sum()
    };
    translation.proxies.values().flat_map(|proxy| kinds.map(|kind| of_kind(proxy, kind))).sum()
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} routes, {} objects, {} kB of xDS", self.routes, self.objects, self.served_bytes / 1000)?;
        writeln!(f, "  parse            {:9.1} ms of CPU", self.parse_ms)?;
        writeln!(f, "  cold             {:9.1} ms of CPU", self.cold_ms)?;
        writeln!(f, "  one route        {:9.1} ms of CPU", self.route_change_ms)?;
        writeln!(f, "  one endpoint     {:9.1} ms of CPU", self.endpoint_change_ms)?;
        writeln!(f, "  one change       {:9} resources that differ", self.changed_resources)?;
        write!(f, "  resident         {:9.1} MiB", self.rss_mib)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::Value;

    use super::*;

    /// Whether any condition says so.
    fn is_refused(status: &Value) -> bool {
        match status {
            Value::Object(fields) => {
                let text = |name: &str| fields.get(name).and_then(Value::as_str).unwrap_or_default();
                matches!((text("type"), text("status")), ("Accepted" | "ResolvedRefs", "False"))
                    || fields.values().any(is_refused)
            }
            Value::Array(items) => items.iter().any(is_refused),
            _ => false,
        }
    }

    #[test]
    fn nothing_in_a_world_is_refused_and_a_change_is_one_resource() {
        for backends in [Backends::Backend, Backends::Service] {
            let mut snapshot = Snapshot::default();
            for object in World::shared().into_iter().chain(World { routes: 3, backends }.objects()) {
                snapshot.insert(object).unwrap();
            }
            let settings = Settings { backend: true, ..Settings::default() };
            let translation = controller_core::translate(&snapshot, &settings);
            assert_eq!(translation.decisions.len(), 6);
            let refused: Vec<_> =
                translation.statuses.iter().filter(|object| is_refused(&object.status.value())).collect();
            assert!(refused.is_empty(), "{refused:?}");
            assert_eq!(measure(3, backends).unwrap().changed_resources, 1);
        }
    }
}
