//! When a session is renewed.

use super::Error;
use super::provider::Provider;
use crate::session::Session;

/// How long before its end an access token is renewed, in seconds; a short-lived one after four fifths of its life.
pub(super) const AHEAD: u64 = 60;

/// When a session needs new tokens.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    Later,
    /// Shortly before it is needed, while the session is used.
    Soon,
    /// Before it can be used.
    Now,
}

impl Due {
    /// An error when the session is over.
    pub(super) fn of(session: &Session, provider: &Provider, now: u64) -> Result<Self, Error> {
        if now >= session.expires {
            return Err(Error::Over);
        }
        let ahead = AHEAD.min(session.access_expires.saturating_sub(session.renewed) / 5);
        if now < session.access_expires.saturating_sub(ahead) {
            return Ok(Self::Later);
        }
        let good = now < session.access_expires;
        if !session.renewable || !provider.config.refresh_token {
            return if good { Ok(Self::Later) } else { Err(Error::Over) };
        }
        Ok(if good { Self::Soon } else { Self::Now })
    }
}
