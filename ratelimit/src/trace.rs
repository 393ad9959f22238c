//! Traces of requests, sent to an OpenTelemetry collector over OTLP. Where to is said by the standard `OTEL_EXPORTER_OTLP_…` variables.

mod b3;
mod http;

use std::{fmt, time::Duration};

use opentelemetry::{
    Context, KeyValue,
    propagation::{Extractor, TextMapPropagator},
    trace::{Span as _, SpanKind, Status, TraceContextExt, Tracer as _, TracerProvider as _},
};
use opentelemetry_otlp::{
    ExporterBuildError, Protocol as OtlpProtocol, SpanExporter, WithExportConfig, WithHttpConfig,
};
use opentelemetry_sdk::{
    Resource,
    propagation::TraceContextPropagator,
    trace::{Sampler, SdkTracer, SdkTracerProvider, Span},
};
use tonic::metadata::{KeyRef, MetadataMap};

use envoy_types::pb::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};

use crate::service;

/// How long the last spans may take when the program ends.
const LAST: Duration = Duration::from_secs(2);

/// What is said about this process, and which requests are traced.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Transport to the collector.
    pub protocol: Protocol,
    /// `service.name`.
    pub service_name: String,
    /// `service.namespace`; empty for none.
    pub namespace: String,
    /// `service.instance.id`.
    pub instance: String,
    /// Share of the requests whose caller has not decided.
    pub sampling_rate: f64,
}

/// Transports of OTLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Protobuf in HTTP requests.
    Http,
    /// gRPC.
    Grpc,
}

/// Makes spans.
#[derive(Clone)]
pub struct Tracer {
    tracer: SdkTracer,
    provider: SdkTracerProvider,
}

impl fmt::Debug for Tracer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tracer").finish_non_exhaustive()
    }
}

impl Tracer {
    /// Sends from the current runtime.
    pub fn start(options: &Options) -> Result<Self, ExporterBuildError> {
        let exporter = match options.protocol {
            Protocol::Grpc => SpanExporter::builder().with_tonic().build()?,
            Protocol::Http => {
                let builder = SpanExporter::builder().with_http().with_protocol(OtlpProtocol::HttpBinary);
                builder.with_http_client(http::Client::new()).build()?
            }
        };
        let mut about = vec![KeyValue::new("service.instance.id", options.instance.clone())];
        if !options.namespace.is_empty() {
            about.push(KeyValue::new("service.namespace", options.namespace.clone()));
        }
        let resource =
            Resource::builder().with_service_name(options.service_name.clone()).with_attributes(about).build();
        let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(options.sampling_rate)));
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_sampler(sampler)
            .with_resource(resource)
            .build();
        Ok(Self { tracer: provider.tracer("ratelimit"), provider })
    }

    /// Sends what has not been sent. Spans after it are lost.
    pub fn end(&self) {
        if let Err(error) = self.provider.shutdown_with_timeout(LAST) {
            tracing::warn!(%error, "the last traces were not sent");
        }
    }

    /// The span of a request, below its caller's.
    pub(crate) fn request(&self, metadata: &MetadataMap) -> RequestSpan {
        let metadata = Metadata(metadata);
        let mut caller = TraceContextPropagator::new().extract_with_context(&Context::new(), &metadata);
        if !caller.span().span_context().is_valid()
            && let Some(span) = b3::extract(&metadata)
        {
            caller = Context::new().with_remote_span_context(span);
        }
        let builder = self
            .tracer
            .span_builder("envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit")
            .with_kind(SpanKind::Server);
        RequestSpan(self.tracer.build_with_context(builder, &caller))
    }
}

/// The span of a request that is being decided.
pub(crate) struct RequestSpan(Span);

impl RequestSpan {
    /// Ends it with what became of the request. Values of descriptors are not told: they identify people.
    pub(crate) fn end(mut self, request: &RateLimitRequest, answer: &Result<RateLimitResponse, service::Error>) {
        if !self.0.is_recording() {
            return;
        }
        self.0.set_attributes([
            KeyValue::new("rpc.system", "grpc"),
            KeyValue::new("rpc.service", "envoy.service.ratelimit.v3.RateLimitService"),
            KeyValue::new("rpc.method", "ShouldRateLimit"),
            KeyValue::new("ratelimit.domain", request.domain.clone()),
            KeyValue::new("ratelimit.descriptors", i64::try_from(request.descriptors.len()).unwrap_or(i64::MAX)),
        ]);
        match answer {
            Ok(response) => {
                self.0.set_attribute(KeyValue::new("ratelimit.code", response.overall_code().as_str_name()));
            }
            Err(error) => self.0.set_status(Status::error(error.to_string())),
        }
        self.0.end();
    }
}

/// Headers of a request, as propagators read them.
struct Metadata<'m>(&'m MetadataMap);

impl Extractor for Metadata<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(|value| value.to_str().ok())
    }

    fn keys(&self) -> Vec<&str> {
        let name = |key| match key {
            KeyRef::Ascii(key) => key.as_str(),
            KeyRef::Binary(key) => key.as_str(),
        };
        self.0.keys().map(name).collect()
    }
}
