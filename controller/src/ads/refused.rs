//! What `ratelimit` and `extauth` refuse of what they are configured with, until they accept something newer or are gone.

use std::collections::BTreeMap;

use tokio::sync::watch;

use super::holds::{MAX_REASON, Owner, Refusals};

/// By the number of the stream that the service is connected by.
type Streams = BTreeMap<u64, Refusals>;

/// Where the services' streams and the statuses meet. Clones share one list.
#[derive(Clone, Debug)]
pub struct Refused(watch::Sender<Streams>);

impl Default for Refused {
    fn default() -> Self {
        Self(watch::Sender::new(Streams::new()))
    }
}

impl Refused {
    /// What is refused, and a wake-up whenever that changes.
    pub fn follow(&self) -> watch::Receiver<Streams> {
        self.0.subscribe()
    }

    /// Of all services.
    pub fn all(&self) -> Refusals {
        self.0.borrow().values().flatten().map(|(owner, reason)| (owner.clone(), reason.clone())).collect()
    }

    /// Enters a stream until the result is dropped.
    pub(super) fn stream(&self) -> Stream {
        let mut number = 0;
        self.0.send_if_modified(|streams| {
            number = streams.last_key_value().map_or(0, |(last, _)| last + 1);
            streams.insert(number, Refusals::new());
            false
        });
        Stream { number, refused: self.clone() }
    }
}

/// A service's entry.
#[derive(Debug)]
pub(super) struct Stream {
    number: u64,
    refused: Refused,
}

impl Stream {
    /// Notes what the service refuses now, and why.
    pub(super) fn tell<'r>(&self, refused: impl Iterator<Item = (Owner, &'r str)>) {
        let shorten = |reason: &str| reason[..reason.floor_char_boundary(MAX_REASON)].to_owned();
        let latest: Refusals = refused.map(|(owner, reason)| (owner, shorten(reason))).collect();
        self.refused.0.send_if_modified(|streams| {
            let before = streams.insert(self.number, latest.clone());
            before.is_none_or(|before| before != latest)
        });
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.refused.0.send_if_modified(|streams| {
            let last = streams.remove(&self.number);
            last.is_some_and(|last| !last.is_empty())
        });
    }
}

/// The object in whose name a service is configured: that of the first `<kind>/<namespace>/<name>` in `text` with one of these
/// kinds, which are written in lower case there.
pub(super) fn owner(text: &str, kinds: &[&'static str]) -> Option<Owner> {
    let found = kinds.iter().filter_map(|kind| Some((text.find(&format!("{}/", kind.to_lowercase()))?, kind)));
    let (at, kind) = found.min()?;
    let is_of_name = |char: char| char.is_ascii_alphanumeric() || matches!(char, '-' | '.');
    let mut parts = text[at..].splitn(4, '/').skip(1).map(|part| part.split(|char| !is_of_name(char)).next());
    let (namespace, name) = (parts.next()??, parts.next()??);
    let is_whole = !namespace.is_empty() && !name.is_empty();
    is_whole.then(|| Owner { kind: (*kind).into(), namespace: namespace.into(), name: name.into() })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const KINDS: [&str; 3] = ["BackendTrafficPolicy", "HTTPRoute", "SecurityPolicy"];

    #[test]
    fn names_tell_whose_they_are() {
        let told = |text| owner(text, &KINDS).map(|owner| owner.to_string());
        let expected = [
            ("securitypolicy/web/keys", Some("SecurityPolicy web/keys")),
            ("securitypolicy/web/keys/merged/web/all/oidc", Some("SecurityPolicy web/keys")),
            (
                r#"RateLimitConfig "backendtrafficpolicy/web/all": backendtrafficpolicy/web/all/rule/0: no unit"#,
                Some("BackendTrafficPolicy web/all"),
            ),
            (
                r#"RateLimitConfig "web/eg/http": httproute/web/app.v1/rule/0/match/0/*_httproute/web/b: no unit"#,
                Some("HTTPRoute web/app.v1"),
            ),
            (r#"RateLimitConfig "backendtrafficpolicy/web/all": no"#, Some("BackendTrafficPolicy web/all")),
            ("resource 7 is no RateLimitConfig", None),
            ("httproute/web", None),
            ("httproute//x", None),
        ];
        for (text, whose) in expected {
            assert_eq!(told(text).as_deref(), whose, "{text}");
        }
    }

    #[test]
    fn what_a_stream_says_holds_until_it_says_otherwise_or_is_gone() {
        let refused = Refused::default();
        let mut follow = refused.follow();
        let owner = Owner { kind: "SecurityPolicy".into(), namespace: "web".into(), name: "keys".into() };
        let (first, second) = (refused.stream(), refused.stream());
        assert!(!follow.has_changed().unwrap());
        first.tell([(owner.clone(), "no")].into_iter());
        assert!(follow.has_changed().unwrap());
        follow.mark_unchanged();
        first.tell([(owner.clone(), "no")].into_iter());
        second.tell([].into_iter());
        assert!(!follow.has_changed().unwrap());
        assert_eq!(refused.all(), [(owner.clone(), "no".to_owned())].into());
        drop(first);
        assert!(follow.has_changed().unwrap() && refused.all().is_empty());
        second.tell([(owner.clone(), &"é".repeat(MAX_REASON)[..])].into_iter());
        assert_eq!(refused.all()[&owner].len(), MAX_REASON);
        second.tell([].into_iter());
        assert!(refused.all().is_empty());
    }
}
