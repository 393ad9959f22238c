//! Metrics of the process in Prometheus' text format.

use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

/// Upper bounds of every histogram, in seconds: 50 µs to 10 s, with room for decisions that take well below 1 ms.
const BUCKETS: [f64; 14] =
    [0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 10.0];

/// How often samples are folded into their histograms when nobody scrapes.
const UPKEEP: Duration = Duration::from_secs(5);

/// Renders what has been recorded.
pub type Handle = Arc<PrometheusHandle>;

static HANDLE: OnceLock<Handle> = OnceLock::new();

/// Makes this process' recorder the one that the `metrics` macros use; again yields the same handle.
pub fn install() -> Handle {
    HANDLE
        .get_or_init(|| {
            let builder = PrometheusBuilder::new();
            // Fails for an empty list only.
            let recorder = builder.set_buckets(&BUCKETS).unwrap_or_default().build_recorder();
            let handle = Arc::new(recorder.handle());
            if ::metrics::set_global_recorder(recorder).is_err() {
                tracing::warn!("metrics go to a recorder that was there before; /metrics stays empty");
            }
            let upkeep = Arc::clone(&handle);
            let spawned = thread::Builder::new().name("metrics".to_owned()).spawn(move || {
                loop {
                    thread::sleep(UPKEEP);
                    upkeep.run_upkeep();
                }
            });
            if let Err(error) = spawned {
                tracing::warn!(%error, "no thread for the upkeep of metrics; histograms grow until scraped");
            }
            handle
        })
        .clone()
}

/// `GET /metrics`.
pub fn router(handle: Handle) -> Router {
    router_at("/metrics", handle)
}

/// `GET` of another path, which must begin with `/`.
pub fn router_at(path: &str, handle: Handle) -> Router {
    let content_type = [(CONTENT_TYPE, "text/plain; version=0.0.4")];
    Router::new().route(path, get(move || async move { (content_type, handle.render()) }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use tower::ServiceExt;

    use super::*;

    #[tokio::test]
    async fn what_is_recorded_is_rendered() {
        let handle = install();
        assert!(Arc::ptr_eq(&handle, &install()));
        ::metrics::counter!("test_total", "a" => "b").increment(3);
        ::metrics::histogram!("test_seconds").record(0.000_2);
        let response = router(handle).oneshot(Request::get("/metrics").body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.status(), 200);
        let text = String::from_utf8(to_bytes(response.into_body(), usize::MAX).await.unwrap().to_vec()).unwrap();
        assert!(text.contains("test_total{a=\"b\"} 3"), "{text}");
        assert!(text.contains("test_seconds_bucket{le=\"0.00025\"} 1"), "{text}");
    }
}
