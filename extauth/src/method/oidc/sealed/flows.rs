//! Started logins in cookies: one each, so that many tabs can log in at once, and of a bounded number.

use std::time::UNIX_EPOCH;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::super::cookie::Cookies;
use super::Sealed;
use crate::check::Check;
use crate::random;

/// Logins that one browser may have started. The oldest is forgotten for the next.
const MOST: usize = 8;
const FLOW: &str = "flow";

/// A login, and until when it is one: a browser does not have to forget its cookie.
#[derive(Serialize, Deserialize)]
struct Kept<T> {
    /// Milliseconds since 1970, to tell which of many tabs was first.
    started: u128,
    /// Seconds since 1970.
    expires: u64,
    #[serde(rename = "flow")]
    entry: T,
}

impl Sealed {
    /// The cookie with a login, and what takes away those that are too old or too many; `None` without random numbers.
    pub(in super::super) fn keep_flow(
        &self,
        names: &Cookies,
        check: &Check<'_>,
        state: &str,
        flow: &impl Serialize,
        seconds: u64,
    ) -> Option<Vec<String>> {
        let started = UNIX_EPOCH.elapsed().ok()?.as_millis();
        let kept = Kept { started, expires: check.now().saturating_add(seconds), entry: flow };
        let text = serde_json::to_vec(&kept).ok()?;
        let place = place(state);
        let sealed = self.ring.seal(&self.purpose(FLOW, &place), text)?;
        let mut known: Vec<_> = self.known(names, check).collect();
        known.sort_unstable();
        let superfluous = (known.len() + 1).saturating_sub(MOST);
        let gone = known.iter().zip(0..).filter(|((_, over, _), number)| *number < superfluous || *over);
        let gone = gone.map(|((_, _, old), _)| names.set_flow(old, "", 0));
        Some(std::iter::once(names.set_flow(&place, &sealed, seconds)).chain(gone).collect())
    }

    /// The login with this state, if this browser started it and it is not over.
    pub(in super::super) fn find_flow<T: DeserializeOwned>(
        &self,
        names: &Cookies,
        check: &Check<'_>,
        state: &str,
    ) -> Option<T> {
        let place = place(state);
        let name = names.flow_of(&place);
        let mut values = check.cookies().filter(|(sent, _)| *sent == name).map(|(_, value)| value);
        let sealed = values.next().filter(|_| values.next().is_none())?;
        let kept: Kept<T> = self.open_flow(&place, sealed)?;
        (check.now() < kept.expires).then_some(kept.entry)
    }

    /// The same, for whoever comes first in this process; beyond it the provider sees to it that a code is good once.
    pub(in super::super) fn take_flow<T: DeserializeOwned>(
        &self,
        names: &Cookies,
        check: &Check<'_>,
        state: &str,
    ) -> Option<T> {
        self.find_flow(names, check, state).filter(|_| self.shared.spend(state))
    }

    /// When the logins of this browser started, whether they are over, and their places; what does not open is long over.
    fn known<'a>(&self, names: &Cookies, check: &Check<'a>) -> impl Iterator<Item = (u128, bool, &'a str)> {
        let prefix = names.flow_of("");
        let sent = check.cookies().filter_map(move |(name, value)| Some((name.strip_prefix(&prefix)?, value)));
        sent.map(|(place, sealed)| match self.open_flow::<serde::de::IgnoredAny>(place, sealed) {
            Some(kept) => (kept.started, kept.expires <= check.now(), place),
            None => (0, true, place),
        })
    }

    fn open_flow<T: DeserializeOwned>(&self, place: &str, sealed: &str) -> Option<Kept<T>> {
        let (text, _) = self.ring.open(&self.purpose(FLOW, place), sealed)?;
        serde_json::from_slice(&text).ok()
    }
}

/// `Set-Cookie` that takes a login away, if the browser has it.
pub(in super::super) fn clear(names: &Cookies, check: &Check<'_>, state: &str) -> Option<String> {
    let place = place(state);
    let name = names.flow_of(&place);
    check.cookies().any(|(sent, _)| sent == name).then(|| names.set_flow(&place, "", 0))
}

/// The names of the cookies with logins that a request has.
pub(super) fn names<'a>(names: &Cookies, check: &Check<'a>) -> impl Iterator<Item = &'a str> {
    let prefix = names.flow_of("");
    check.cookies().map(|(name, _)| name).filter(move |name| name.starts_with(&prefix))
}

/// What a login's cookie is called by: enough of its state's hash to tell a browser's logins apart.
fn place(state: &str) -> String {
    let hash = random::hash(&[FLOW, state]);
    hash.chars().filter(char::is_ascii_alphanumeric).take(16).collect()
}
