//! The order in which the routes of a virtual host are tried (Gateway API's precedence of matches).

use std::{cmp::Reverse, collections::BTreeMap};

use super::gateway::Gateway;
use crate::{
    ir::{HttpRoute, Match, PathMatch, ValueMatch},
    snapshot::Key,
};

/// Sorts the routes of every listener.
pub(super) fn sort_all(gateways: &mut BTreeMap<Key, Gateway<'_>>) {
    for listener in gateways.values_mut().flat_map(|gateway| &mut gateway.proxy.http) {
        sort(&mut listener.routes);
    }
}

/// Sorts the most specific routes to the front. Equals stay as they are: older routes first, then by name and rule.
fn sort(routes: &mut [HttpRoute]) {
    routes.sort_by_cached_key(|route| Reverse(specificity(&route.matches)));
}

/// The greater, the earlier: kind of path match, its length, then how many headers, cookies and query parameters must fit.
fn specificity(matches: &Match) -> [usize; 8] {
    let (kind, length) = match &matches.path {
        Some(PathMatch::Exact(path)) => (2, path.len()),
        Some(PathMatch::RegularExpression(regex)) => (1, regex.len()),
        Some(PathMatch::Suffix(suffix)) => (0, suffix.len()),
        Some(PathMatch::Prefix(prefix)) if prefix != "/" => (0, prefix.len()),
        Some(PathMatch::Prefix(_)) | None => (0, 0),
    };
    let exact = |values: &[ValueMatch]| values.iter().filter(|value| !value.regex).count();
    let method = usize::from(matches.method.is_some());
    let headers = matches.headers.len() + method;
    let (params, cookies) = (&matches.query_params, &matches.cookies);
    [
        kind,
        length,
        headers,
        exact(&matches.headers) + method,
        cookies.len(),
        exact(cookies),
        params.len(),
        exact(params),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(regex: bool) -> ValueMatch {
        ValueMatch { name: "x".into(), value: "y".into(), regex }
    }

    #[test]
    fn paths_come_before_headers_before_parameters() {
        let path = |path| Match { path: Some(path), ..Match::default() };
        let in_order = [
            path(PathMatch::Exact("/a".into())),
            path(PathMatch::RegularExpression("/a.*".into())),
            path(PathMatch::Prefix("/longer".into())),
            Match { headers: vec![value(false)], ..path(PathMatch::Prefix("/a".into())) },
            path(PathMatch::Prefix("/a".into())),
            Match { headers: vec![value(false), value(true)], ..Match::default() },
            Match { method: Some("GET".into()), ..Match::default() },
            Match { headers: vec![value(true)], ..Match::default() },
            Match { cookies: vec![value(false)], ..Match::default() },
            Match { cookies: vec![value(true)], ..Match::default() },
            Match { query_params: vec![value(false)], ..Match::default() },
            Match { query_params: vec![value(true)], ..Match::default() },
        ];
        assert!(in_order.is_sorted_by(|a, b| specificity(a) > specificity(b)));
        assert_eq!(specificity(&Match::default()), specificity(&path(PathMatch::Prefix("/".into()))));
    }
}
