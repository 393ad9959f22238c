//! Hostnames of listeners and routes, and where they meet.

use std::collections::BTreeSet;

/// The hostname that takes every host.
pub(super) const ANY: &str = "*";

/// Whether every host that `inner` takes is taken by `outer` too. `*.a.b` takes any depth of labels before `.a.b`.
pub(super) fn covers(outer: &str, inner: &str) -> bool {
    if outer == ANY || outer == inner {
        return true;
    }
    let Some(suffix) = outer.strip_prefix('*') else { return false };
    let inner = inner.strip_prefix('*').unwrap_or(inner);
    inner.ends_with(suffix) && inner.len() > suffix.len()
}

/// The hosts on which a route meets a listener.
///
/// `others` are the hostnames of the other listeners on the same port: what one of them takes more specifically is
/// left to it (Gateway API's listener isolation).
pub(super) fn meet<'a>(
    route: &[String],
    listener: &str,
    others: &(impl Iterator<Item = &'a str> + Clone),
) -> BTreeSet<String> {
    if route.is_empty() {
        return BTreeSet::from([listener.to_owned()]);
    }
    let both = route.iter().filter_map(|host| {
        if covers(listener, host) {
            Some(host.as_str())
        } else if covers(host, listener) {
            Some(listener)
        } else {
            None
        }
    });
    let claimed =
        |host: &str| others.clone().any(|other| other != listener && covers(listener, other) && covers(other, host));
    both.filter(|host| !claimed(host)).map(ToOwned::to_owned).collect()
}

/// Whether `host` is a DNS name in lower case, perhaps with `*` as its first label (Gateway API's `Hostname`).
pub(super) fn is_valid(host: &str) -> bool {
    let name = host.strip_prefix("*.").unwrap_or(host);
    host.len() <= 253 && name.split('.').all(is_label) && name.parse::<std::net::IpAddr>().is_err()
}

fn is_label(label: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&label.len()) && label.bytes().all(inner) && !label.starts_with('-') && !label.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(route: &[&str], listener: &str, others: &[&str]) -> Vec<String> {
        let route: Vec<String> = route.iter().map(ToString::to_string).collect();
        meet(&route, listener, &others.iter().copied()).into_iter().collect()
    }

    #[test]
    fn the_more_specific_side_wins() {
        assert_eq!(hosts(&[], "*", &[]), ["*"]);
        assert_eq!(hosts(&[], "a.com", &[]), ["a.com"]);
        assert_eq!(hosts(&["a.com", "b.com"], "*", &[]), ["a.com", "b.com"]);
        assert_eq!(hosts(&["a.com", "b.com"], "a.com", &[]), ["a.com"]);
        assert_eq!(hosts(&["x.a.com", "x.y.a.com", "a.com"], "*.a.com", &[]), ["x.a.com", "x.y.a.com"]);
        assert_eq!(hosts(&["*.a.com"], "x.a.com", &[]), ["x.a.com"]);
        assert_eq!(hosts(&["*.com"], "*.a.com", &[]), ["*.a.com"]);
        assert_eq!(hosts(&["*.x.a.com"], "*.a.com", &[]), ["*.x.a.com"]);
        assert_eq!(hosts(&["nota.com"], "*.a.com", &[]), Vec::<String>::new());
    }

    #[test]
    fn a_more_specific_listener_keeps_its_hosts() {
        assert_eq!(hosts(&["a.com", "b.com"], "*", &["a.com"]), ["b.com"]);
        assert_eq!(hosts(&["x.a.com"], "*.com", &["*.a.com", "*"]), Vec::<String>::new());
        assert_eq!(hosts(&["*.com"], "*", &["a.com"]), ["*.com"]);
    }

    #[test]
    fn validity_is_that_of_the_crd() {
        for host in ["a", "a.com", "*.a.com", "a-1.b"] {
            assert!(is_valid(host), "{host}");
        }
        for host in ["", "*", "A.com", "a..com", "-a.com", "a.*.com", "1.2.3.4", "a_b.com", "a.com:80"] {
            assert!(!is_valid(host), "{host}");
        }
    }
}
