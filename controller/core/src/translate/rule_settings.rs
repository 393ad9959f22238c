//! A rule's `retry` and `sessionPersistence`.

use controller_api::{
    Duration,
    cluster_settings::{BackOff, PerRetry, Retry, RetryOn, RetryTrigger},
};
use gateway_api::apis::experimental::httproutes::{
    HttpRouteRulesRetry, HttpRouteRulesSessionPersistence,
    HttpRouteRulesSessionPersistenceCookieConfigLifetimeType as Lifetime,
    HttpRouteRulesSessionPersistenceType as SessionType,
};

use super::{fault::Fault, route_match::is_token};
use crate::ir::Session;

/// What is tried again whatever the status: requests that got no answer at all.
const NO_ANSWER: [RetryTrigger; 3] = [RetryTrigger::ConnectFailure, RetryTrigger::RefusedStream, RetryTrigger::Reset];

/// Reads `retry` as the settings that a policy has for it.
pub(super) fn retry(spec: &HttpRouteRulesRetry) -> Result<Retry, Fault> {
    let unsupported = |message: String| Fault::accepted("UnsupportedValue", message);
    let codes = spec.codes.iter().flatten().map(|code| {
        let status = u16::try_from(*code).ok().filter(|status| (400..600).contains(status));
        status.ok_or_else(|| unsupported(format!("retry.codes has {code}, must be 400 to 599")))
    });
    let codes: Vec<u16> = codes.collect::<Result<_, _>>()?;
    let attempts = spec.attempts.map(|attempts| {
        u32::try_from(attempts).map_err(|_| unsupported(format!("retry.attempts {attempts} is out of range")))
    });
    let back_off = spec.backoff.as_ref().map(|text| duration("retry.backoff", text)).transpose()?;
    let mut triggers = NO_ANSWER.to_vec();
    if !codes.is_empty() {
        triggers.push(RetryTrigger::RetriableStatusCodes);
    }
    Ok(Retry {
        num_retries: attempts.transpose()?,
        retry_on: Some(RetryOn { triggers, http_status_codes: codes }),
        per_retry: back_off.map(|interval| PerRetry {
            back_off: Some(BackOff { base_interval: Some(interval), ..BackOff::default() }),
            ..PerRetry::default()
        }),
        ..Retry::default()
    })
}

/// Reads `sessionPersistence`; a session without a name is called after the rule's cluster, `destination`.
pub(super) fn session(spec: &HttpRouteRulesSessionPersistence, destination: &str) -> Result<Session, Fault> {
    let unsupported = |message: String| Fault::accepted("UnsupportedValue", message);
    let name = spec.session_name.clone().unwrap_or_else(|| destination.replace(['/', '.'], "-"));
    if !is_token(&name) {
        return Err(unsupported(format!("sessionPersistence.sessionName {name:?} is invalid")));
    }
    let lifetime = spec.cookie_config.as_ref().and_then(|config| config.lifetime_type.as_ref());
    let timeout = spec.absolute_timeout.as_ref().map(|text| duration("sessionPersistence.absoluteTimeout", text));
    let timeout = timeout.transpose()?;
    match (spec.r#type.as_ref().unwrap_or(&SessionType::Cookie), lifetime, timeout) {
        (SessionType::Header, ..) => Ok(Session::Header { name }),
        (SessionType::Cookie, Some(Lifetime::Permanent), None) => {
            let message = "sessionPersistence.absoluteTimeout must be set when the cookie's lifetimeType is Permanent";
            Err(unsupported(message.to_owned()))
        }
        (SessionType::Cookie, Some(Lifetime::Permanent), Some(timeout)) => {
            Ok(Session::Cookie { name, ttl_ms: Some(timeout.as_millis()) })
        }
        (SessionType::Cookie, ..) => Ok(Session::Cookie { name, ttl_ms: None }),
    }
}

fn duration(field: &str, text: &str) -> Result<Duration, Fault> {
    text.parse().map_err(|error| Fault::accepted("UnsupportedValue", format!("{field} {text:?} is invalid: {error}")))
}
