//! Which requests a route takes.

use envoy_types::pb::envoy::config::route::v3::{
    CookieMatcher, HeaderMatcher, QueryParameterMatcher, RouteMatch, header_matcher::HeaderMatchSpecifier,
    query_parameter_matcher::QueryParameterMatchSpecifier, route_match::PathSpecifier,
};
use envoy_types::pb::envoy::r#type::matcher::v3::StringMatcher;

use crate::{
    ir::{Match, PathMatch, ValueMatch},
    xds::matcher::{exact, re2, regex, suffix},
};

pub(super) fn route_match(matches: &Match) -> RouteMatch {
    let method = matches.method.as_deref().map(|method| header(":method", exact(method)));
    let headers = matches.headers.iter().map(|value| header(&value.name, string(value)));
    let end = match &matches.path {
        Some(PathMatch::Suffix(end)) => Some(header(":path", suffix(end))),
        _ => None,
    };
    let query_parameter = |value: &ValueMatch| QueryParameterMatcher {
        name: value.name.clone(),
        query_parameter_match_specifier: Some(QueryParameterMatchSpecifier::StringMatch(string(value))),
    };
    let cookie = |value: &ValueMatch| CookieMatcher {
        name: value.name.clone(),
        string_match: Some(string(value)),
        ..Default::default()
    };
    RouteMatch {
        path_specifier: Some(path(matches.path.as_ref())),
        headers: headers.chain(method).chain(end).collect(),
        query_parameters: matches.query_params.iter().map(query_parameter).collect(),
        cookies: matches.cookies.iter().map(cookie).collect(),
        ..Default::default()
    }
}

fn path(path: Option<&PathMatch>) -> PathSpecifier {
    match path {
        None | Some(PathMatch::Suffix(_)) => PathSpecifier::Prefix("/".into()),
        Some(PathMatch::Exact(path)) => PathSpecifier::Path(path.clone()),
        Some(PathMatch::RegularExpression(pattern)) => PathSpecifier::SafeRegex(re2(pattern)),
        Some(PathMatch::Prefix(prefix)) => match prefix.trim_end_matches('/') {
            "" => PathSpecifier::Prefix("/".into()),
            prefix => PathSpecifier::PathSeparatedPrefix(prefix.to_owned()),
        },
    }
}

fn header(name: &str, value: StringMatcher) -> HeaderMatcher {
    HeaderMatcher {
        name: name.to_owned(),
        header_match_specifier: Some(HeaderMatchSpecifier::StringMatch(value)),
        ..Default::default()
    }
}

fn string(value: &ValueMatch) -> StringMatcher {
    if value.regex { regex(&value.value) } else { exact(&value.value) }
}
