//! Delays and errors on purpose.

use controller_api::fault_injection::{FaultInjection, FaultInjectionAbort, FaultInjectionDelay};
use envoy_types::pb::{
    envoy::{
        extensions::filters::{
            common::fault::v3::{FaultDelay, fault_delay::FaultDelaySecifier},
            http::fault::v3::{FaultAbort, HttpFault, fault_abort::ErrorType},
            network::http_connection_manager::v3::HttpFilter,
        },
        r#type::v3::{FractionalPercent, fractional_percent::DenominatorType},
    },
    google::protobuf::Any,
};

use super::{Filter, enabled};
use crate::{
    ir::HttpRoute,
    xds::{
        listener::Port,
        value::{any, duration},
    },
};

const NAME: &str = "envoy.filters.http.fault";

pub(super) struct Fault;

impl Filter for Fault {
    fn chain(&self, port: &Port<'_>) -> Vec<HttpFilter> {
        let is_used = port.routes().any(|route| injection(route).is_some());
        is_used.then(|| enabled(NAME, &HttpFault::default())).into_iter().collect()
    }

    fn route(&self, _listener: &str, route: &HttpRoute) -> Vec<(String, Any)> {
        injection(route).map(|injection| (NAME.to_owned(), any(&fault(injection)))).into_iter().collect()
    }
}

fn injection(route: &HttpRoute) -> Option<&FaultInjection> {
    route.traffic.as_ref()?.spec.fault_injection.as_ref()
}

fn fault(injection: &FaultInjection) -> HttpFault {
    HttpFault {
        // Envoy refuses a delay of nothing.
        delay: injection.delay.as_ref().filter(|delay| !delay.fixed_delay.is_zero()).map(delay),
        abort: injection.abort.as_ref().and_then(abort),
        ..Default::default()
    }
}

fn delay(delay: &FaultInjectionDelay) -> FaultDelay {
    FaultDelay {
        percentage: Some(millionths(delay.percentage)),
        fault_delay_secifier: Some(FaultDelaySecifier::FixedDelay(duration(delay.fixed_delay))),
    }
}

fn abort(abort: &FaultInjectionAbort) -> Option<FaultAbort> {
    let status = abort.http_status.map(|status| ErrorType::HttpStatus(status.into()));
    let error = status.or(abort.grpc_status.map(|status| ErrorType::GrpcStatus(status.into())))?;
    Some(FaultAbort { percentage: Some(millionths(abort.percentage)), error_type: Some(error), ..Default::default() })
}

/// A share in percent, all when unset, to the fourth decimal.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the product is clamped to 0..=1,000,000")]
fn millionths(percent: Option<f32>) -> FractionalPercent {
    let numerator = (f64::from(percent.unwrap_or(100.0)) * 10_000.0).round().clamp(0.0, 1_000_000.0) as u32;
    FractionalPercent { numerator, denominator: DenominatorType::Million.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_exact_to_the_fourth_decimal() {
        for (percent, expected) in [
            (None, 1_000_000),
            (Some(80.0), 800_000),
            (Some(0.0001), 1),
            (Some(33.3333), 333_333),
            (Some(-1.0), 0),
            (Some(f32::NAN), 0),
        ] {
            assert_eq!(millionths(percent).numerator, expected, "{percent:?}");
        }
    }
}
