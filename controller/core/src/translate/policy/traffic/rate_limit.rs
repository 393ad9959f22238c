//! Rate limits of a policy: merged by rule, checked, with CIDRs in their shortest form.

use controller_api::{
    backend_traffic_policy::BackendTrafficPolicySpec,
    policy::MergeType,
    rate_limit::{
        GlobalRateLimit, KeyedMatch, KeyedMatchType, LocalRateLimit, PathMatch, PathMatchType, RateLimitCostFrom,
        RateLimitCostSpecifier, RateLimitRule, RateLimitSelectCondition, RateLimitSpec,
    },
};
use ipnet::IpNet;

use super::Named;
use crate::{Settings, translate::re2};

/// The rules of a policy, global ones with their names.
#[derive(Default)]
pub(super) struct Limits {
    global: Option<Vec<(String, RateLimitRule)>>,
    local: Option<Vec<RateLimitRule>>,
}

impl Limits {
    /// Names each global rule `<namespace>/<policy>/rule/<index>`, which it keeps wherever it ends up.
    pub(super) fn of(policy: Named<'_, BackendTrafficPolicySpec>) -> Self {
        let Some(spec) = &policy.spec.rate_limit else { return Self::default() };
        let (namespace, name) = (&policy.object.namespace, &policy.object.name);
        let named = |(index, rule): (usize, &RateLimitRule)| (format!("{namespace}/{name}/rule/{index}"), rule.clone());
        Self {
            global: spec.global().map(|global| global.rules.iter().enumerate().map(named).collect()),
            local: spec.local().map(|local| local.rules.clone()),
        }
    }

    /// A strategic merge keeps the rules of both, the child's first; of two local defaults it keeps the child's.
    pub(super) fn merge(self, child: Self, merge_type: MergeType) -> Self {
        if merge_type == MergeType::JSONMerge {
            return Self { global: child.global.or(self.global), local: child.local.or(self.local) };
        }
        let global = match (child.global, self.global) {
            (Some(child), Some(parent)) => Some(child.into_iter().chain(parent).collect()),
            (child, parent) => child.or(parent),
        };
        let local = match (child.local, self.local) {
            (Some(child), Some(parent)) => {
                let has_default = child.iter().any(|rule| rule.client_selectors.is_empty());
                let inherited = parent.into_iter().filter(|rule| !(has_default && rule.client_selectors.is_empty()));
                Some(child.iter().cloned().chain(inherited).collect())
            }
            (child, parent) => child.or(parent),
        };
        Self { global, local }
    }

    /// As in a policy, beside the names of its global rules.
    pub(super) fn into_spec(self) -> Result<(Option<RateLimitSpec>, Vec<String>), String> {
        if self.global.is_none() && self.local.is_none() {
            return Ok((None, Vec::new()));
        }
        let mut names = Vec::new();
        let mut global = self.global.map(|rules| {
            let rules = rules.into_iter().map(|(name, rule)| {
                names.push(name);
                rule
            });
            GlobalRateLimit { rules: rules.collect() }
        });
        let mut local = self.local.map(|rules| LocalRateLimit { rules });
        let global_rules = global.iter_mut().flat_map(|global| &mut global.rules);
        for rule in global_rules.chain(local.iter_mut().flat_map(|local| &mut local.rules)) {
            normalise(rule)?;
        }
        Ok((Some(RateLimitSpec { kind: None, global, local }), names))
    }
}

/// Cuts the host bits off CIDRs, so that equal ranges look equal.
fn normalise(rule: &mut RateLimitRule) -> Result<(), String> {
    for source in rule.client_selectors.iter_mut().filter_map(|selector| selector.source_cidr.as_mut()) {
        let range: IpNet = source.value.parse().map_err(|_| {
            format!("RateLimit: sourceCIDR.value {:?} is no CIDR, expected one such as 10.0.0.0/8", source.value)
        })?;
        source.value = range.trunc().to_string();
    }
    Ok(())
}

/// Adds what is wrong to `errors`.
pub(super) fn check(limits: &RateLimitSpec, settings: &Settings, errors: &mut Vec<String>) {
    let before = errors.len();
    if let Some(global) = &limits.global {
        if settings.rate_limit.is_none() {
            errors.push("enable Ratelimit in the EnvoyGateway config to configure global rateLimit".into());
        }
        for (index, rule) in global.rules.iter().enumerate() {
            check_rule(&format!("spec.rateLimit.global.rules[{index}]"), rule, errors);
        }
    }
    if let Some(local) = &limits.local {
        check_local(local, errors);
    }
    for error in errors.iter_mut().skip(before) {
        *error = format!("RateLimit: {error}");
    }
}

fn check_local(local: &LocalRateLimit, errors: &mut Vec<String>) {
    let mut defaults = local.rules.iter().filter(|rule| rule.client_selectors.is_empty());
    let unit = defaults.next().map_or(1, |rule| rule.limit.unit.seconds());
    if defaults.next().is_some() {
        errors.push("local rateLimit can not have more than one rule without clientSelectors".into());
    }
    for (index, rule) in local.rules.iter().enumerate() {
        let field = format!("spec.rateLimit.local.rules[{index}]");
        if !rule.limit.unit.seconds().is_multiple_of(unit) {
            errors
                .push(format!("{field}.limit.unit must be a multiple of the unit of the rule without clientSelectors"));
        }
        if rule.limit.requests == 0 {
            errors.push(format!("{field}.limit.requests must be at least 1, for Envoy has no bucket without tokens"));
        }
        if rule.limit.from_metadata.is_some() {
            errors.push(format!("{field}.limit.fromMetadata is for global rate limits only"));
        }
        if rule.cost.as_ref().is_some_and(|cost| cost.response.is_some()) {
            errors.push(format!("{field}.cost.response is for global rate limits only"));
        }
        check_rule(&field, rule, errors);
    }
}

fn check_rule(field: &str, rule: &RateLimitRule, errors: &mut Vec<String>) {
    for (index, selector) in rule.client_selectors.iter().enumerate() {
        check_selector(&format!("{field}.clientSelectors[{index}]"), selector, errors);
    }
    if let Some(cost) = &rule.cost {
        check_cost(&format!("{field}.cost.request"), cost.request.as_ref(), errors);
        check_cost(&format!("{field}.cost.response"), cost.response.as_ref(), errors);
    }
}

fn check_cost(field: &str, cost: Option<&RateLimitCostSpecifier>, errors: &mut Vec<String>) {
    let Some(cost) = cost else { return };
    match cost.from {
        RateLimitCostFrom::Number if cost.number.is_none() => errors.push(format!("{field}.number must be set")),
        RateLimitCostFrom::Metadata if cost.metadata.is_none() => errors.push(format!("{field}.metadata must be set")),
        _ => {}
    }
}

fn check_selector(field: &str, selector: &RateLimitSelectCondition, errors: &mut Vec<String>) {
    if selector.is_empty() {
        errors.push(format!("{field} must have at least one of headers, methods, path, sourceCIDR and queryParams"));
    }
    for (index, header) in selector.headers.iter().enumerate() {
        check_keyed(&format!("{field}.headers[{index}]"), header, errors);
    }
    for (index, parameter) in selector.query_params.iter().enumerate() {
        check_keyed(&format!("{field}.queryParams[{index}]"), parameter, errors);
    }
    if let Some(path) = &selector.path {
        check_path(&format!("{field}.path"), path, errors);
    }
}

fn check_keyed(field: &str, matching: &KeyedMatch, errors: &mut Vec<String>) {
    if matching.name.is_empty() {
        errors.push(format!("{field}.name must not be empty"));
    }
    match (matching.kind.unwrap_or_default(), &matching.value) {
        (KeyedMatchType::Distinct, Some(_)) => errors.push(format!("{field}.value must not be set for type Distinct")),
        (KeyedMatchType::Distinct, None) if matching.invert == Some(true) => {
            errors.push(format!("{field}.invert must not be set for type Distinct"));
        }
        (KeyedMatchType::Exact | KeyedMatchType::RegularExpression, None) => {
            errors.push(format!("{field}.value must be set"));
        }
        (KeyedMatchType::RegularExpression, Some(pattern)) => check_regex(&format!("{field}.value"), pattern, errors),
        _ => {}
    }
}

fn check_path(field: &str, path: &PathMatch, errors: &mut Vec<String>) {
    match path.kind.unwrap_or_default() {
        PathMatchType::RegularExpression => check_regex(&format!("{field}.value"), &path.value, errors),
        PathMatchType::Exact | PathMatchType::PathPrefix if !path.value.starts_with('/') => {
            errors.push(format!("{field}.value must begin with /"));
        }
        _ => {}
    }
}

fn check_regex(field: &str, pattern: &str, errors: &mut Vec<String>) {
    if let Err(error) = re2::check(pattern) {
        errors.push(format!("{field}: {error}"));
    }
}
