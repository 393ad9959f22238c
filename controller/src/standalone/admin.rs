//! What the process tells about itself over HTTP.

use std::{collections::BTreeMap, sync::Arc};

use axum::{Json, Router, extract, http::StatusCode, routing::get};
use controller_core::{
    translate::ObjectStatus,
    xds::{Resources, Type},
};
use proto::{json, metrics};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::{ready::Report, state::State};
use crate::ads::Cache;

/// Where the answers come from.
#[derive(Clone, Debug)]
pub(super) struct Admin {
    pub(super) cache: Cache,
    pub(super) states: watch::Receiver<Arc<State>>,
    pub(super) reports: watch::Receiver<Report>,
}

impl Admin {
    /// `/healthz`, `/ready`, `/status`, `/config_dump` and `/metrics`.
    pub(super) fn router(self, handle: metrics::Handle) -> Router {
        Router::new()
            .route("/healthz", get(async || "ok\n"))
            .route("/ready", get(ready))
            .route("/status", get(status))
            .route("/config_dump", get(config_dump))
            .with_state(self)
            .merge(metrics::router(handle))
    }
}

async fn ready(extract::State(admin): extract::State<Admin>) -> (StatusCode, Json<Report>) {
    let report = admin.reports.borrow().clone();
    let status = if report.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(report))
}

async fn status(extract::State(admin): extract::State<Admin>) -> Json<Value> {
    let state = admin.states.borrow().clone();
    let clients = admin.cache.clients().borrow().clone();
    let envoys = clients.values().map(|client| {
        let refused = client.rejections.iter().map(|rejection| {
            json!({"type": rejection.kind.url(), "name": rejection.name, "message": rejection.message})
        });
        let current = admin.cache.is_current(&client.cluster);
        json!({"node": client.node, "gateway": client.cluster, "current": current, "refused": refused.collect::<Value>()})
    });
    let objects: Vec<&ObjectStatus> = state.statuses.iter().map(AsRef::as_ref).collect();
    Json(json!({"objects": objects, "sources": state.sources, "envoys": envoys.collect::<Value>()}))
}

async fn config_dump(extract::State(admin): extract::State<Admin>) -> Json<Value> {
    let proxies = admin.cache.proxies().borrow().clone();
    Json(proxies.iter().map(|(key, resources)| (key.clone(), dump(resources))).collect())
}

/// All resources by type and name. Of secrets only the names.
fn dump(resources: &Resources) -> Value {
    let of_type = |kind: Type| -> BTreeMap<&str, Value> {
        let content = |any| match kind {
            Type::Secret => Value::Null,
            _ => json::any_to_json(any).unwrap_or_else(|error| error.to_string().into()),
        };
        resources.of(kind).map(|(name, resource)| (name, content(&resource.any))).collect()
    };
    Type::ALL.into_iter().map(|kind| (kind.url().to_owned(), json!(of_type(kind)))).collect()
}
