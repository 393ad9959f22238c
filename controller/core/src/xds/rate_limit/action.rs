//! Envoy's rate limit actions.

use std::collections::BTreeSet;

use controller_api::rate_limit::{
    HttpMethod, KeyedMatch, KeyedMatchType, MethodMatch, PathMatch, PathMatchType, RateLimitCostFrom,
    RateLimitCostSpecifier, RateLimitMetadata, RateLimitRule, XRateLimitHeaders,
};
use envoy_types::pb::{
    envoy::{
        config::route::v3::{
            HeaderMatcher, QueryParameterMatcher, RateLimit,
            header_matcher::HeaderMatchSpecifier,
            query_parameter_matcher::QueryParameterMatchSpecifier,
            rate_limit::{
                Action, HitsAddend, Override, XRateLimitOption,
                action::{
                    ActionSpecifier, GenericKey, HeaderValueMatch, QueryParameterValueMatch, QueryParameters,
                    RemoteAddressMatch, RequestHeaders,
                },
                r#override::{DynamicMetadata, OverrideSpecifier},
            },
        },
        r#type::{
            matcher::v3::{AddressMatcher, StringMatcher, string_matcher::MatchPattern},
            metadata::v3::{
                MetadataKey,
                metadata_key::{PathSegment, path_segment::Segment},
            },
        },
    },
    google::protobuf::UInt64Value,
    xds::core::v3::CidrRange,
};
use ipnet::IpNet;

use super::Link;
use crate::xds::{
    matcher::{exact, quote, regex},
    value::{boolean, uint32},
};

/// The client's address in Envoy's access log format.
pub(super) const CLIENT_ADDRESS: &str = "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%";

/// What Envoy does for a rule: one element for each combination of alternative actions, all for the same descriptor, and
/// as many again where the response costs something too.
pub(crate) fn rate_limits(root: Option<&str>, links: &[Link], rule: &RateLimitRule) -> Vec<RateLimit> {
    let mut chains = vec![root.map(always).into_iter().collect::<Vec<_>>()];
    for link in links {
        chains = chains
            .iter()
            .flat_map(|chain| {
                link.actions.iter().map(|action| [chain.as_slice(), std::slice::from_ref(action)].concat())
            })
            .collect();
    }
    let cost = rule.cost.as_ref();
    let response = cost.and_then(|cost| cost.response.as_ref());
    let request = cost.and_then(|cost| cost.request.as_ref());
    let headers = match rule.x_rate_limit_headers {
        None => XRateLimitOption::Unspecified,
        Some(XRateLimitHeaders::Off) => XRateLimitOption::Off,
        Some(XRateLimitHeaders::DraftVersion03) => XRateLimitOption::DraftVersion03,
    };
    let limit = |chain: &[ActionSpecifier], cost: Option<&RateLimitCostSpecifier>, on_response: bool| RateLimit {
        actions: chain.iter().map(|action| Action { action_specifier: Some(action.clone()) }).collect(),
        limit: rule.limit.from_metadata.as_ref().map(from_metadata),
        hits_addend: cost.map(hits_addend),
        apply_on_stream_done: on_response,
        x_ratelimit_option: headers.into(),
        ..Default::default()
    };
    let of_chain = |chain: Vec<ActionSpecifier>| {
        let on_response = response.map(|cost| limit(&chain, Some(cost), true));
        [limit(&chain, request, false)].into_iter().chain(on_response)
    };
    chains.into_iter().flat_map(of_chain).collect()
}

fn hits_addend(cost: &RateLimitCostSpecifier) -> HitsAddend {
    match (cost.from, &cost.metadata) {
        (RateLimitCostFrom::Metadata, Some(RateLimitMetadata { namespace, key })) => {
            HitsAddend { format: format!("%DYNAMIC_METADATA({namespace}:{key})%"), ..Default::default() }
        }
        _ => HitsAddend { number: cost.number.map(|value| UInt64Value { value }), ..Default::default() },
    }
}

fn from_metadata(metadata: &RateLimitMetadata) -> Override {
    let segment = PathSegment { segment: Some(Segment::Key(metadata.key.clone())) };
    let metadata_key = MetadataKey { key: metadata.namespace.clone(), path: vec![segment] };
    let dynamic = DynamicMetadata { metadata_key: Some(metadata_key) };
    Override { override_specifier: Some(OverrideSpecifier::DynamicMetadata(dynamic)) }
}

/// An entry for every request.
pub(super) fn always(key: &str) -> ActionSpecifier {
    ActionSpecifier::GenericKey(GenericKey {
        descriptor_key: key.to_owned(),
        descriptor_value: key.to_owned(),
        ..Default::default()
    })
}

/// An entry with the value of a header.
pub(super) fn header(key: &str, name: &str) -> ActionSpecifier {
    ActionSpecifier::RequestHeaders(RequestHeaders {
        header_name: name.to_owned(),
        descriptor_key: key.to_owned(),
        ..Default::default()
    })
}

/// An entry for requests whose header matches.
pub(super) fn header_value(key: &str, matching: &KeyedMatch) -> ActionSpecifier {
    header_match(key, &matching.name, string(matching), matching.invert == Some(true))
}

/// An entry with the value of a query parameter.
pub(super) fn query_parameter(key: &str, name: &str) -> ActionSpecifier {
    ActionSpecifier::QueryParameters(QueryParameters {
        query_parameter_name: name.to_owned(),
        descriptor_key: key.to_owned(),
        ..Default::default()
    })
}

/// An entry for requests whose query parameter matches.
pub(super) fn query_parameter_value(key: &str, matching: &KeyedMatch) -> ActionSpecifier {
    let matcher = QueryParameterMatcher {
        name: matching.name.clone(),
        query_parameter_match_specifier: Some(QueryParameterMatchSpecifier::StringMatch(string(matching))),
    };
    ActionSpecifier::QueryParameterValueMatch(QueryParameterValueMatch {
        descriptor_key: key.to_owned(),
        descriptor_value: key.to_owned(),
        expect_match: boolean(matching.invert != Some(true)),
        query_parameters: vec![matcher],
        ..Default::default()
    })
}

/// An entry for requests with one of the methods: an action each, of which a request never meets two, or it would be
/// charged twice.
pub(super) fn methods(key: &str, methods: &[&MethodMatch]) -> Vec<ActionSpecifier> {
    let is_inverted = |method: &&&MethodMatch| method.invert == Some(true);
    let wanted: BTreeSet<HttpMethod> =
        methods.iter().filter(|method| !is_inverted(method)).map(|method| method.value).collect();
    let unwanted: BTreeSet<HttpMethod> = methods.iter().filter(is_inverted).map(|method| method.value).collect();
    let action = |method: &HttpMethod, invert| header_match(key, ":method", exact(method.as_str()), invert);
    match (unwanted.len(), unwanted.first()) {
        (0, _) => wanted.iter().map(|method| action(method, false)).collect(),
        // Every other method, and with it those that are wanted.
        (1, Some(method)) if !wanted.contains(method) => vec![action(method, true)],
        // Whatever the method is, it is not one of them.
        _ => vec![always(key)],
    }
}

/// An entry for requests whose path matches; exact paths and patterns see the query too, as they do upstream.
pub(super) fn path(key: &str, path: &PathMatch) -> ActionSpecifier {
    let matcher = match path.kind.unwrap_or_default() {
        PathMatchType::Exact => exact(&path.value),
        PathMatchType::RegularExpression => regex(&path.value),
        PathMatchType::PathPrefix => match path.value.trim_end_matches('/') {
            "" => StringMatcher { match_pattern: Some(MatchPattern::Prefix("/".into())), ..Default::default() },
            prefix => regex(&format!(r"^{}(/.*|\?.*|#.*|;.*|$)", quote(prefix))),
        },
    };
    header_match(key, ":path", matcher, path.invert == Some(true))
}

/// An entry for clients in `range`, or outside of it.
pub(super) fn address(key: &str, value: &str, range: IpNet, invert_match: bool) -> ActionSpecifier {
    let range = CidrRange { address_prefix: range.addr().to_string(), prefix_len: uint32(range.prefix_len().into()) };
    ActionSpecifier::RemoteAddressMatch(RemoteAddressMatch {
        descriptor_key: key.to_owned(),
        descriptor_value: value.to_owned(),
        address_matcher: Some(AddressMatcher { ranges: vec![range], invert_match }),
        ..Default::default()
    })
}

fn header_match(key: &str, name: &str, matcher: StringMatcher, invert: bool) -> ActionSpecifier {
    let header = HeaderMatcher {
        name: name.to_owned(),
        header_match_specifier: Some(HeaderMatchSpecifier::StringMatch(matcher)),
        ..Default::default()
    };
    ActionSpecifier::HeaderValueMatch(HeaderValueMatch {
        descriptor_key: key.to_owned(),
        descriptor_value: key.to_owned(),
        expect_match: boolean(!invert),
        headers: vec![header],
        ..Default::default()
    })
}

fn string(matching: &KeyedMatch) -> StringMatcher {
    let value = matching.value.as_deref().unwrap_or_default();
    if matching.kind == Some(KeyedMatchType::RegularExpression) { regex(value) } else { exact(value) }
}
