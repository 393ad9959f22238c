//! Metrics of the process for Prometheus: as text, and as protobuf with native histograms for scrapers that ask for it.

mod native;
mod protobuf;

use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use ::metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use axum::Router;
use axum::http::HeaderMap;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::routing::get;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

use self::native::Natives;

/// Upper bounds of every histogram, in seconds: 50 µs to 10 s, with room for decisions that take well below 1 ms.
const BUCKETS: [f64; 14] =
    [0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 10.0];

/// How often samples are folded into their histograms when nobody scrapes.
const UPKEEP: Duration = Duration::from_secs(5);
const TEXT: &str = "text/plain; version=0.0.4";

/// Renders what has been recorded.
#[derive(Clone, Debug)]
pub struct Handle(Arc<Exposition>);

#[derive(Debug)]
struct Exposition {
    text: PrometheusHandle,
    natives: Arc<Natives>,
}

/// Records what a [`Handle`] renders.
pub struct Exporter {
    classic: PrometheusRecorder,
    natives: Arc<Natives>,
}

static HANDLE: OnceLock<Handle> = OnceLock::new();

/// Makes this process' recorder the one that the `metrics` macros use; again yields the same handle.
pub fn install() -> Handle {
    install_with(&[], |exporter| Box::new(exporter))
}

/// [`install`] with labels on every metric, and the exporter inside of another recorder. Has no effect when one is installed already.
pub fn install_with(labels: &[(String, String)], around: impl FnOnce(Exporter) -> Box<dyn Recorder + Sync>) -> Handle {
    HANDLE
        .get_or_init(|| {
            // Fails for an empty list only.
            let builder = PrometheusBuilder::new().set_buckets(&BUCKETS).unwrap_or_default();
            let builder = labels.iter().fold(builder, |builder, (name, value)| builder.add_global_label(name, value));
            let classic = builder.build_recorder();
            let natives = Arc::new(Natives::default());
            let handle = Handle(Arc::new(Exposition { text: classic.handle(), natives: Arc::clone(&natives) }));
            if ::metrics::set_global_recorder(around(Exporter { classic, natives })).is_err() {
                tracing::warn!("metrics go to a recorder that was there before; /metrics stays empty");
            }
            keep_up(handle.clone());
            handle
        })
        .clone()
}

fn keep_up(handle: Handle) {
    let spawned = thread::Builder::new().name("metrics".to_owned()).spawn(move || {
        loop {
            thread::sleep(UPKEEP);
            handle.0.text.run_upkeep();
        }
    });
    if let Err(error) = spawned {
        tracing::warn!(%error, "no thread for the upkeep of metrics; histograms grow until scraped");
    }
}

impl Handle {
    /// Prometheus' text format.
    pub fn render(&self) -> String {
        ::metrics::counter!("log_lines_dropped_total").absolute(crate::telemetry::dropped_lines());
        self.0.text.render()
    }

    /// Prometheus' protobuf format, with native histograms beside the classic buckets.
    pub fn render_protobuf(&self) -> Vec<u8> {
        protobuf::render(&self.render(), &self.0.natives)
    }
}

impl Recorder for Exporter {
    fn describe_counter(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.classic.describe_counter(key, unit, description);
    }

    fn describe_gauge(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.classic.describe_gauge(key, unit, description);
    }

    fn describe_histogram(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.classic.describe_histogram(key, unit, description);
    }

    fn register_counter(&self, key: &Key, metadata: &Metadata<'_>) -> Counter {
        self.classic.register_counter(key, metadata)
    }

    fn register_gauge(&self, key: &Key, metadata: &Metadata<'_>) -> Gauge {
        self.classic.register_gauge(key, metadata)
    }

    fn register_histogram(&self, key: &Key, metadata: &Metadata<'_>) -> Histogram {
        self.natives.beside(self.classic.register_histogram(key, metadata), key)
    }
}

/// `GET /metrics`.
pub fn router(handle: Handle) -> Router {
    router_at("/metrics", handle)
}

/// `GET` of another path, which must begin with `/`.
pub fn router_at(path: &str, handle: Handle) -> Router {
    Router::new().route(path, get(move |headers: HeaderMap| async move { scrape(&handle, &headers) }))
}

fn scrape(handle: &Handle, headers: &HeaderMap) -> ([(axum::http::HeaderName, &'static str); 1], Vec<u8>) {
    let accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    // Prometheus names the format that it likes best first.
    let best = accepted.flat_map(|value| value.split(',')).next().unwrap_or_default().replace(' ', "");
    if best.contains(protobuf::MESSAGE) && best.contains("encoding=delimited") {
        ([(CONTENT_TYPE, protobuf::CONTENT_TYPE)], handle.render_protobuf())
    } else {
        ([(CONTENT_TYPE, TEXT)], handle.render().into_bytes())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use tower::ServiceExt;

    use super::*;

    async fn get(accept: &str) -> (String, Vec<u8>) {
        let request = Request::get("/metrics").header(ACCEPT, accept).body(Body::empty()).unwrap();
        let response = router(install()).oneshot(request).await.unwrap();
        assert_eq!(response.status(), 200);
        let kind = response.headers()[CONTENT_TYPE].to_str().unwrap().to_owned();
        (kind, to_bytes(response.into_body(), usize::MAX).await.unwrap().to_vec())
    }

    #[tokio::test]
    async fn what_is_recorded_is_rendered() {
        assert!(Arc::ptr_eq(&install().0, &install().0));
        ::metrics::counter!("test_total", "a" => "b").increment(3);
        ::metrics::histogram!("test_seconds").record(0.000_2);
        let (kind, text) = get("text/plain;version=0.0.4;q=0.5,*/*;q=0.1").await;
        let text = String::from_utf8(text).unwrap();
        assert_eq!(kind, TEXT);
        assert!(text.contains("test_total{a=\"b\"} 3"), "{text}");
        assert!(text.contains("test_seconds_bucket{le=\"0.00025\"} 1"), "{text}");
    }

    #[tokio::test]
    async fn prometheus_gets_native_histograms_when_it_asks_for_them() {
        ::metrics::histogram!("test_native_seconds").record(0.5);
        install();
        ::metrics::histogram!("test_native_seconds").record(0.5);
        let asked = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,\
                     text/plain;version=0.0.4;q=0.5";
        let (kind, bytes) = get(asked).await;
        assert_eq!(kind, protobuf::CONTENT_TYPE);
        assert!(bytes.windows(19).any(|window| window == b"test_native_seconds"));
    }
}
