//! Authorization rules on what is known about a request: the first one that matches decides.

use controller_api::{
    rate_limit::{PathMatch, PathMatchType},
    security_policy::authorization::{
        Authorization, AuthorizationAction, AuthorizationRule, JwtClaimValueType, JwtPrincipal, Operation, Principal,
    },
};
use envoy_types::pb::{
    envoy::{
        config::{
            core::v3::CidrRange,
            rbac::v3::{Action as RbacAction, rbac::Action as Effect},
        },
        extensions::{
            filters::{
                http::rbac::v3::{Rbac as Config, RbacPerRoute},
                network::http_connection_manager::v3::HttpFilter,
            },
            matching::{
                common_inputs::network::v3::{
                    DynamicMetadataInput, SourceIpInput,
                    dynamic_metadata_input::{PathSegment, path_segment::Segment},
                },
                input_matchers::{ip::v3::Ip, metadata::v3::Metadata as MetadataMatch},
            },
        },
        r#type::matcher::v3::{HttpRequestHeaderMatchInput, ListMatcher, ValueMatcher, list_matcher, value_matcher},
    },
    google::protobuf::Any,
    xds::{
        core::v3::TypedExtensionConfig,
        r#type::matcher::v3::{
            Matcher, RegexMatcher, StringMatcher,
            matcher::{
                MatcherList, MatcherType, OnMatch,
                matcher_list::{
                    FieldMatcher, Predicate,
                    predicate::{MatchType, PredicateList, SinglePredicate, single_predicate},
                },
                on_match,
            },
            regex_matcher::{EngineType, GoogleRe2},
            string_matcher::MatchPattern,
        },
        r#type::v3::CelExpression,
    },
};
use prost::Name;
use proto::messages::{CelMatcher, HttpAttributesCelMatchInput};

use super::{Filter, enabled, jwt_authn};
use crate::{
    ir::{HttpRoute, Security},
    xds::{
        listener::Port,
        matcher::{exact, quote},
        name,
        value::{any, uint32},
    },
};

const NAME: &str = "envoy.filters.http.rbac";

pub(super) struct Rbac;

impl Filter for Rbac {
    fn chain(&self, port: &Port<'_>) -> Vec<HttpFilter> {
        let is_used = port.routes().any(|route| spec(route).is_some());
        is_used.then(|| enabled(NAME, &Config::default())).into_iter().collect()
    }

    fn route(&self, _listener: &str, route: &HttpRoute) -> Vec<(String, Any)> {
        let Some((security, authorization)) = spec(route) else { return Vec::new() };
        let rbac = Config { matcher: Some(matcher(security, authorization)), ..Default::default() };
        vec![(NAME.to_owned(), any(&RbacPerRoute { rbac: Some(rbac) }))]
    }
}

fn spec(route: &HttpRoute) -> Option<(&Security, &Authorization)> {
    let security = route.security.as_deref()?;
    Some((security, security.spec.authorization.as_ref()?))
}

fn matcher(security: &Security, authorization: &Authorization) -> Matcher {
    let rules = authorization.rules.iter().enumerate().map(|(index, rule)| {
        let default_name = || format!("{}/authorization/rule/{index}", name::policy(&security.policy));
        FieldMatcher {
            predicate: Some(predicate(rule)),
            on_match: Some(on_match(&rule.name.clone().unwrap_or_else(default_name), rule.action)),
        }
    });
    let matchers: Vec<FieldMatcher> = rules.collect();
    let default_action = authorization.default_action.unwrap_or_default();
    Matcher {
        matcher_type: (!matchers.is_empty()).then_some(MatcherType::MatcherList(MatcherList { matchers })),
        on_no_match: Some(Box::new(on_match("default", default_action))),
    }
}

fn on_match(name: &str, action: AuthorizationAction) -> OnMatch {
    let (word, effect) = match action {
        AuthorizationAction::Allow => ("ALLOW", Effect::Allow),
        AuthorizationAction::Deny => ("DENY", Effect::Deny),
    };
    let action = extension(name, &RbacAction { name: word.into(), action: effect.into() });
    OnMatch { on_match: Some(on_match::OnMatch::Action(action)), ..Default::default() }
}

fn predicate(rule: &AuthorizationRule) -> Predicate {
    let operation = rule.operation.iter().flat_map(operation);
    let principal = rule.principal.iter().flat_map(principal);
    let expression = rule.cel.as_deref().map(cel);
    all(operation.chain(principal).chain(expression).collect()).unwrap_or_else(anything)
}

/// What cannot be parsed has been refused with its policy before.
fn cel(expression: &str) -> Predicate {
    let Ok(parsed) = crate::cel::parse(expression) else { return nothing() };
    let expression = CelExpression { cel_expr_parsed: Some(parsed), ..Default::default() };
    let matcher = CelMatcher { expr_match: Some(expression), ..Default::default() };
    single(extension("cel", &HttpAttributesCelMatchInput {}), custom("cel_matcher", &matcher))
}

fn operation(operation: &Operation) -> Vec<Predicate> {
    let method = |method: &controller_api::rate_limit::HttpMethod| {
        header(":method", StringMatcher { ignore_case: true, ..string(method.as_str()) })
    };
    let methods = any_of(operation.methods.iter().map(method).collect());
    methods.into_iter().chain(operation.path.as_ref().map(path)).collect()
}

fn principal(principal: &Principal) -> Vec<Predicate> {
    let headers = principal.headers.iter().map(|wanted| {
        any_of(wanted.values.iter().map(|value| header(&wanted.name, string(value))).collect()).unwrap_or_else(nothing)
    });
    let client = (!principal.client_cidrs.is_empty()).then(|| client_ip(&principal.client_cidrs));
    let token = principal.jwt.iter().flat_map(token);
    client.into_iter().chain(headers).chain(token).collect()
}

/// The address that Envoy takes for the client's, in one of `cidrs`.
fn client_ip(cidrs: &[String]) -> Predicate {
    let ranges = cidrs.iter().filter_map(|cidr| cidr.parse::<ipnet::IpNet>().ok()).map(|range| CidrRange {
        address_prefix: range.network().to_string(),
        prefix_len: uint32(range.prefix_len().into()),
    });
    let matcher = Ip { cidr_ranges: ranges.collect(), stat_prefix: "client_ip".into() };
    // Envoy refuses an empty list; what cannot be read has been refused with its policy before.
    if matcher.cidr_ranges.is_empty() {
        return nothing();
    }
    single(extension("client_ip", &SourceIpInput::default()), custom("ip_matcher", &matcher))
}

/// What a verified token says; without one nothing is there, so nothing matches.
fn token(jwt: &JwtPrincipal) -> Vec<Predicate> {
    let claims = jwt.claims.iter().map(|wanted| {
        let value = |value: &String| match wanted.value_type.unwrap_or_default() {
            JwtClaimValueType::String => text_value(value),
            JwtClaimValueType::StringArray => list_with(value),
        };
        let path: Vec<&str> = [jwt.provider.as_str()].into_iter().chain(wanted.name.split('.')).collect();
        any_of(wanted.values.iter().map(|wanted| claim(&path, value(wanted))).collect()).unwrap_or_else(nothing)
    });
    let scopes = jwt.scopes.iter().map(|scope| claim(&[&jwt.provider, "scope"], list_with(scope)));
    claims.chain(scopes).collect()
}

fn claim(path: &[&str], value: ValueMatcher) -> Predicate {
    let input = DynamicMetadataInput {
        filter: jwt_authn::NAME.into(),
        path: path.iter().map(|key| PathSegment { segment: Some(Segment::Key((*key).to_owned())) }).collect(),
    };
    let matcher = MetadataMatch { value: Some(value), invert: false };
    single(extension("claim", &input), custom("claim_matcher", &matcher))
}

fn text_value(value: &str) -> ValueMatcher {
    ValueMatcher { match_pattern: Some(value_matcher::MatchPattern::StringMatch(exact(value))) }
}

fn list_with(value: &str) -> ValueMatcher {
    let one_of = Some(list_matcher::MatchPattern::OneOf(Box::new(text_value(value))));
    ValueMatcher {
        match_pattern: Some(value_matcher::MatchPattern::ListMatch(Box::new(ListMatcher { match_pattern: one_of }))),
    }
}

/// `:path` holds the query too, which a rule on the path does not mean.
fn path(path: &PathMatch) -> Predicate {
    let pattern = match path.kind.unwrap_or_default() {
        PathMatchType::Exact => format!(r"^{}(\?.*|#.*|;.*|$)", quote(&path.value)),
        PathMatchType::PathPrefix => format!(r"^{}(/.*|\?.*|#.*|;.*|$)", quote(path.value.trim_end_matches('/'))),
        PathMatchType::RegularExpression => with_query(&path.value),
    };
    let matched = header(":path", pattern_match(&pattern));
    if path.invert.unwrap_or(false) { not(matched) } else { matched }
}

/// The pattern with whatever may follow a path. A `$` at the end would otherwise make `/admin?` pass a rule on `/admin$`.
fn with_query(pattern: &str) -> String {
    let open = pattern.strip_suffix('$').filter(|open| !open.ends_with('\\')).unwrap_or(pattern);
    format!(r"(?:{open})(\?.*|#.*|;.*)?")
}

fn anything() -> Predicate {
    header(":method", pattern_match(".*"))
}

fn nothing() -> Predicate {
    not(anything())
}

fn not(predicate: Predicate) -> Predicate {
    Predicate { match_type: Some(MatchType::NotMatcher(Box::new(predicate))) }
}

fn header(name: &str, value: StringMatcher) -> Predicate {
    single(
        extension("http_header", &HttpRequestHeaderMatchInput { header_name: name.to_owned() }),
        single_predicate::Matcher::ValueMatch(value),
    )
}

fn string(value: &str) -> StringMatcher {
    StringMatcher { match_pattern: Some(MatchPattern::Exact(value.to_owned())), ignore_case: false }
}

fn pattern_match(pattern: &str) -> StringMatcher {
    let regex =
        RegexMatcher { regex: pattern.to_owned(), engine_type: Some(EngineType::GoogleRe2(GoogleRe2::default())) };
    StringMatcher { match_pattern: Some(MatchPattern::SafeRegex(regex)), ignore_case: false }
}

fn single(input: TypedExtensionConfig, matcher: single_predicate::Matcher) -> Predicate {
    let single = SinglePredicate { input: Some(input), matcher: Some(matcher) };
    Predicate { match_type: Some(MatchType::SinglePredicate(single)) }
}

fn custom<M: Name>(name: &str, config: &M) -> single_predicate::Matcher {
    single_predicate::Matcher::CustomMatch(extension(name, config))
}

fn all(predicates: Vec<Predicate>) -> Option<Predicate> {
    combined(predicates, MatchType::AndMatcher)
}

fn any_of(predicates: Vec<Predicate>) -> Option<Predicate> {
    combined(predicates, MatchType::OrMatcher)
}

/// Envoy refuses a list of fewer than two.
fn combined(mut predicate: Vec<Predicate>, list: fn(PredicateList) -> MatchType) -> Option<Predicate> {
    if predicate.len() < 2 {
        return predicate.pop();
    }
    Some(Predicate { match_type: Some(list(PredicateList { predicate })) })
}

fn extension<M: Name>(name: &str, config: &M) -> TypedExtensionConfig {
    TypedExtensionConfig { name: name.to_owned(), typed_config: Some(any(config)) }
}
