//! Rate limits as a person says them.

use controller_api::rate_limit::{
    KeyedMatch, KeyedMatchType, PathMatchType, RateLimitRule, RateLimitSelectCondition, RateLimitSpec, SourceMatch,
    SourceMatchType,
};

/// One line for each rule that is in force.
pub(super) fn lines(limits: &RateLimitSpec) -> Vec<String> {
    let local = limits.local().into_iter().flat_map(|local| &local.rules).map(|rule| line("in each Envoy", rule));
    let global = limits.global().into_iter().flat_map(|global| &global.rules).map(|rule| line("over all Envoys", rule));
    local.chain(global).collect()
}

fn line(scope: &str, rule: &RateLimitRule) -> String {
    let unit = format!("{:?}", rule.limit.unit).to_lowercase();
    let clients: Vec<String> = rule.client_selectors.iter().map(selector).collect();
    let clients = if clients.is_empty() { "all requests".to_owned() } else { clients.join(" or ") };
    let mut line = format!("{} a {unit} {scope} for {clients}", rule.limit.requests);
    if rule.shared == Some(true) {
        line.push_str(", shared by all routes of the policy");
    }
    if rule.shadow_mode == Some(true) {
        line.push_str(", only counted (shadow mode)");
    }
    line
}

fn selector(selector: &RateLimitSelectCondition) -> String {
    let mut parts: Vec<String> = selector.headers.iter().map(|header| keyed("header", header)).collect();
    parts.extend(selector.query_params.iter().map(|parameter| keyed("query parameter", parameter)));
    for method in &selector.methods {
        parts.push(inverted(method.invert, format!("method {}", method.value.as_str())));
    }
    if let Some(path) = &selector.path {
        let relation = match path.kind.unwrap_or_default() {
            PathMatchType::Exact => "path",
            PathMatchType::PathPrefix => "path below",
            PathMatchType::RegularExpression => "path like",
        };
        parts.push(inverted(path.invert, format!("{relation} {}", path.value)));
    }
    parts.extend(selector.source_cidr.as_ref().map(source));
    if parts.is_empty() { "all requests".to_owned() } else { parts.join(" and ") }
}

fn keyed(what: &str, keyed: &KeyedMatch) -> String {
    let KeyedMatch { kind, name, value, invert } = keyed;
    let value = value.as_deref().unwrap_or_default();
    match kind.unwrap_or_default() {
        KeyedMatchType::Distinct => format!("each value of {what} {name}"),
        KeyedMatchType::Exact => inverted(*invert, format!("{what} {name} = {value}")),
        KeyedMatchType::RegularExpression => inverted(*invert, format!("{what} {name} like {value}")),
    }
}

fn source(source: &SourceMatch) -> String {
    match source.kind.unwrap_or_default() {
        SourceMatchType::Exact => inverted(source.invert, format!("clients in {}", source.value)),
        SourceMatchType::Distinct => format!("each client in {}", source.value),
    }
}

fn inverted(invert: Option<bool>, text: String) -> String {
    if invert == Some(true) { format!("not {text}") } else { text }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    #[test]
    fn limits_read_like_sentences() {
        let spec = json!({"type": "Global", "global": {"rules": [
            {"limit": {"requests": 3, "unit": "Hour"}, "clientSelectors": [
                {"headers": [{"name": "x-user-id", "type": "Distinct"}, {"name": "x-tier", "value": "gold", "invert": true}],
                 "path": {"value": "/api"}},
                {"sourceCIDR": {"value": "10.0.0.0/8"}, "methods": [{"value": "POST"}]}]},
            {"limit": {"requests": 100, "unit": "Second"}, "shared": true, "shadowMode": true}]}});
        let expected = [
            "3 a hour over all Envoys for each value of header x-user-id and not header x-tier = gold and path below /api \
             or method POST and clients in 10.0.0.0/8",
            "100 a second over all Envoys for all requests, shared by all routes of the policy, only counted (shadow mode)",
        ];
        assert_eq!(lines(&serde_json::from_value(spec).unwrap()), expected);
    }
}
