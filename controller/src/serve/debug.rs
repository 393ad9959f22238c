//! What people may want to see of a controller that runs, without anything that is secret.

use std::sync::Arc;

use axum::{Json, Router, extract::State, routing::get};
use controller_core::xds::{Resources, Type};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::ads::Cache;

/// `/debug/resources` and `/debug/envoys`.
pub(super) fn router(cache: Cache) -> Router {
    Router::new()
        .route("/debug/resources", get(async |State(cache): State<Cache>| Json(resources(&cache))))
        .route("/debug/envoys", get(async |State(cache): State<Cache>| Json(envoys(&cache))))
        .with_state(cache)
}

/// By proxy, the version of each resource by type and name, and a hash of them all, which is the same in every replica that
/// serves the same. The version of a secret is no secret, but something to try guesses on, and left out.
fn resources(cache: &Cache) -> Value {
    let proxies = cache.proxies().borrow().clone();
    let shown = proxies.iter().map(|(key, resources)| (key.clone(), proxy(resources)));
    Value::Object(shown.collect())
}

fn proxy(resources: &Resources) -> Value {
    let mut all = Sha256::new();
    let mut types = Map::new();
    for kind in Type::ALL {
        let mut versions = Map::new();
        for (name, resource) in resources.of(kind) {
            all.update([kind.url(), "\0", name, "\0", &resource.version, "\0"].concat());
            let version = if kind == Type::Secret { Value::Null } else { json!(resource.version) };
            versions.insert(name.to_owned(), version);
        }
        types.insert(format!("{kind:?}"), versions.into());
    }
    let hash = all.finalize().iter().take(8).fold(0_u64, |hash, byte| hash << 8 | u64::from(*byte));
    json!({"hash": format!("{hash:016x}"), "resources": types})
}

/// Who is connected, whether it holds what is latest, and what it refused.
fn envoys(cache: &Cache) -> Value {
    let (clients, proxies) = (cache.clients().borrow().clone(), cache.proxies().borrow().clone());
    let shown = clients.values().map(|client| {
        let latest = proxies.get(&client.cluster);
        let current = client.holds.as_ref().zip(latest).is_some_and(|(held, latest)| Arc::ptr_eq(held, latest));
        let refused = client.rejections.iter().map(|rejection| {
            // Envoy's reason for refusing a secret may quote it.
            let message = if rejection.kind == Type::Secret { "not shown" } else { &rejection.message };
            json!({"type": format!("{:?}", rejection.kind), "name": rejection.name, "message": message})
        });
        json!({"node": client.node, "proxy": client.cluster, "current": current, "refused": refused.collect::<Value>()})
    });
    shown.collect()
}
