//! Names that end up in statistics, access logs, rate limit descriptors and patches.

use crate::ir::ObjectRef;

/// The cluster of a rule: `httproute/<namespace>/<name>/rule/<rule>`.
pub(super) fn destination(route: &ObjectRef, rule: usize) -> String {
    format!("{}/{}/{}/rule/{rule}", route.kind.to_lowercase(), route.namespace, route.name)
}

/// The cluster of a mirror filter, by its place among the rule's filters.
pub(super) fn mirror(destination: &str, filter: usize) -> String {
    format!("{destination}-mirror-{filter}")
}

/// The cluster of an `ExternalAuth` filter.
pub(super) fn ext_auth(destination: &str) -> String {
    format!("{destination}/extauth/0")
}

/// One backendRef of a destination; that of a mirror has no index of its own and is called -1.
pub(super) fn backend(destination: &str, index: Option<usize>) -> String {
    format!("{destination}/backend/{}", or_minus_one(index))
}

/// A route that looks into no request: `tcproute/<namespace>/<name>`.
pub(super) fn transport_route(route: &ObjectRef) -> String {
    format!("{}/{}/{}", route.kind.to_lowercase(), route.namespace, route.name)
}

/// The cluster of such a route, whose one rule is called -1.
pub(super) fn transport_destination(route: &ObjectRef) -> String {
    format!("{}/rule/-1", transport_route(route))
}

/// One match of a rule on one host; a rule without matches has the match -1.
pub(super) fn route(destination: &str, index: Option<usize>, host: &str) -> String {
    format!("{destination}/match/{}/{}", or_minus_one(index), host.replace('.', "_"))
}

/// The question of a browser whether it may send what the match takes.
pub(super) fn preflight(destination: &str, index: Option<usize>, host: &str) -> String {
    format!("{destination}/match/{}/cors-preflight/{}", or_minus_one(index), host.replace('.', "_"))
}

fn or_minus_one(index: Option<usize>) -> String {
    index.map_or_else(|| "-1".to_owned(), |index| index.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_upstreams() {
        let object = ObjectRef { kind: "HTTPRoute", namespace: "web".into(), name: "app".into() };
        let rule = destination(&object, 1);
        assert_eq!(rule, "httproute/web/app/rule/1");
        assert_eq!(route(&rule, Some(0), "*.example.com"), "httproute/web/app/rule/1/match/0/*_example_com");
        assert_eq!(route(&rule, None, "*"), "httproute/web/app/rule/1/match/-1/*");
        assert_eq!(backend(&rule, Some(2)), "httproute/web/app/rule/1/backend/2");
        assert_eq!(mirror(&rule, 3), "httproute/web/app/rule/1-mirror-3");
    }
}
