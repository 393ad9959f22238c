//! Attempts after the first.

use std::time::Duration;

use bytes::Bytes;
use http::Response;
use proto::extauth::Retry;

use super::Error;

/// An attempt that brought no answer.
pub(super) struct Failure {
    pub(super) error: Error,
    /// Nobody can have acted on it.
    pub(super) unsent: bool,
}

/// Whether there is to be another attempt.
pub(super) fn is_due(retry: &Retry, outcome: &Result<Response<Bytes>, Failure>) -> bool {
    match outcome {
        Ok(answer) => retry.status_codes.contains(&answer.status().as_u16()),
        Err(failure) if failure.unsent => retry.connect_failure || retry.reset,
        Err(_) => retry.reset,
    }
}

/// How long to wait before the retry `number`, from 0.
pub(super) fn pause(retry: &Retry, number: u32) -> Duration {
    let doubled = retry.base_interval_ms.saturating_mul(1 << number.min(16)).min(retry.max_interval_ms);
    Duration::from_millis(doubled).mul_f64(rand::random_range(0.0..=1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retry() -> Retry {
        Retry {
            num_retries: 2,
            connect_failure: false,
            reset: false,
            status_codes: vec![],
            per_try_timeout_ms: None,
            base_interval_ms: 10,
            max_interval_ms: 50,
        }
    }

    fn answer(status: u16) -> Response<Bytes> {
        Response::builder().status(status).body(Bytes::new()).unwrap_or_default()
    }

    #[test]
    fn only_what_is_named_is_tried_again() {
        let failure = |unsent| Err(Failure { error: Error::Timeout, unsent });
        assert!(
            !is_due(&retry(), &failure(true))
                && !is_due(&retry(), &failure(false))
                && !is_due(&retry(), &Ok(answer(503)))
        );
        let connect = Retry { connect_failure: true, ..retry() };
        assert!(is_due(&connect, &failure(true)) && !is_due(&connect, &failure(false)));
        let reset = Retry { reset: true, ..retry() };
        assert!(is_due(&reset, &failure(true)) && is_due(&reset, &failure(false)));
        let statuses = Retry { status_codes: vec![503], ..retry() };
        assert!(
            is_due(&statuses, &Ok(answer(503)))
                && !is_due(&statuses, &Ok(answer(500)))
                && !is_due(&statuses, &Ok(answer(200)))
        );
    }

    #[test]
    fn pauses_grow_to_the_longest() {
        let longest = |number| (0..200).map(|_| pause(&retry(), number)).max().unwrap_or_default();
        assert!(longest(0) <= Duration::from_millis(10));
        for number in [3, 16, u32::MAX] {
            let longest = longest(number);
            assert!(longest > Duration::from_millis(20) && longest <= Duration::from_millis(50), "{longest:?}");
        }
    }
}
