//! Who is told of the way of each request.

use clap::{ArgAction::Set, Args};

use super::go;
use crate::trace::{Options, Protocol};

/// Who is told of the way of each request.
#[derive(Args, Clone, Debug)]
pub struct Tracing {
    /// Send traces over OTLP, to where the standard OTEL_EXPORTER_OTLP_ENDPOINT says
    #[arg(long, env, default_value = "false", action = Set, value_parser = go::boolean)]
    pub tracing_enabled: bool,
    /// http or grpc
    #[arg(long, env, default_value = "http", value_parser = protocol)]
    pub tracing_exporter_protocol: Protocol,
    /// service.name of the traces
    #[arg(long, env, default_value = "RateLimit")]
    pub tracing_service_name: String,
    /// service.namespace of the traces
    #[arg(long, env, default_value = "")]
    pub tracing_service_namespace: String,
    /// service.instance.id of the traces [default: a random one]
    #[arg(long, env, default_value = "")]
    pub tracing_service_instance_id: String,
    /// Share of requests that are traced when their caller does not say, from 0 to 1
    #[arg(long, env, default_value = "1", value_parser = go::share::<f64>)]
    pub tracing_sampling_rate: f64,
}

impl Tracing {
    /// How to trace, if at all.
    pub fn options(&self) -> Option<Options> {
        let instance = match self.tracing_service_instance_id.as_str() {
            "" => format!("{:032x}", rand::random::<u128>()),
            instance => instance.to_owned(),
        };
        self.tracing_enabled.then(|| Options {
            protocol: self.tracing_exporter_protocol,
            service_name: self.tracing_service_name.clone(),
            namespace: self.tracing_service_namespace.clone(),
            instance,
            sampling_rate: self.tracing_sampling_rate,
        })
    }
}

fn protocol(text: &str) -> Result<Protocol, String> {
    match text {
        "http" => Ok(Protocol::Http),
        "grpc" => Ok(Protocol::Grpc),
        _ => Err("say http or grpc".into()),
    }
}
