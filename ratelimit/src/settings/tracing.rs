//! Who is told of the way of each request.

use clap::{ArgAction::Set, Args};

use super::{Error, go};

/// Who is told of the way of each request.
#[derive(Args, Clone, Debug)]
pub struct Tracing {
    /// Not supported yet: send traces over OTLP
    #[arg(long, env, default_value = "false", action = Set, value_parser = go::boolean)]
    pub tracing_enabled: bool,
    /// http or grpc
    #[arg(long, env, default_value = "http")]
    pub tracing_exporter_protocol: String,
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
    pub(super) fn validate(&self) -> Result<(), Error> {
        if self.tracing_enabled {
            return Err(Error::refused("TRACING_ENABLED", "traces are not supported yet; set it to false"));
        }
        Ok(())
    }
}
