//! The matches of an HTTPRoute's rule.

use gateway_api::apis::experimental::httproutes::{
    HttpRouteRulesMatches, HttpRouteRulesMatchesHeadersType as HeaderType, HttpRouteRulesMatchesPath,
    HttpRouteRulesMatchesPathType as PathType, HttpRouteRulesMatchesQueryParamsType as QueryType,
};

use super::{fault::Fault, re2};
use crate::ir::{Match, PathMatch, ValueMatch};

/// Reads one match with the defaults of its schema.
pub(super) fn read(spec: &HttpRouteRulesMatches) -> Result<Match, Fault> {
    let path = spec.path.as_ref().map(path).transpose()?;
    let headers = spec.headers.iter().flatten().map(|header| {
        let regex = header.r#type == Some(HeaderType::RegularExpression);
        self::header(&header.name, &header.value, regex)
    });
    let query_params = spec.query_params.iter().flatten().map(|param| {
        let regex = param.r#type == Some(QueryType::RegularExpression);
        if param.name.is_empty() {
            return Err(unsupported("query parameter name \"\" is invalid".to_owned()));
        }
        value(param.name.clone(), &param.value, regex)
    });
    let method = spec.method.as_ref().map(serde_json::to_value).transpose().ok().flatten();
    Ok(Match {
        path,
        method: method.as_ref().and_then(serde_json::Value::as_str).map(ToOwned::to_owned),
        headers: first_of_name(headers.collect::<Result<_, _>>()?, str::eq_ignore_ascii_case),
        query_params: first_of_name(query_params.collect::<Result<_, _>>()?, |a, b| a == b),
        cookies: Vec::new(),
    })
}

fn unsupported(message: String) -> Fault {
    Fault::accepted("UnsupportedValue", message)
}

fn path(spec: &HttpRouteRulesMatchesPath) -> Result<PathMatch, Fault> {
    let value = spec.value.clone().unwrap_or_else(|| "/".to_owned());
    let kind = spec.r#type.as_ref().unwrap_or(&PathType::PathPrefix);
    if *kind == PathType::RegularExpression {
        re2::check(&value).map_err(unsupported)?;
        return Ok(PathMatch::RegularExpression(value));
    }
    // As the schema has it: what is matched is a normalised path without query.
    let strange = ["//", "/./", "/../", "%2f", "%2F", "#", "?"].iter().any(|part| value.contains(part));
    if !value.starts_with('/') || strange || value.ends_with("/..") || value.ends_with("/.") {
        return Err(unsupported(format!("path {value:?} is not an absolute, normalised path")));
    }
    Ok(match kind {
        PathType::Exact => PathMatch::Exact(value),
        _ => PathMatch::Prefix(value),
    })
}

/// A header with a name that HTTP allows.
pub(super) fn header(name: &str, text: &str, regex: bool) -> Result<ValueMatch, Fault> {
    if !is_token(name) {
        return Err(unsupported(format!("header name {name:?} is invalid")));
    }
    value(name.to_owned(), text, regex)
}

/// A named value, whose pattern must be one.
pub(super) fn value(name: String, text: &str, regex: bool) -> Result<ValueMatch, Fault> {
    if regex {
        re2::check(text).map_err(unsupported)?;
    }
    Ok(ValueMatch { name, value: text.to_owned(), regex })
}

/// Of entries with equivalent names only the first counts.
pub(super) fn first_of_name(values: Vec<ValueMatch>, same: impl Fn(&str, &str) -> bool) -> Vec<ValueMatch> {
    let mut kept: Vec<ValueMatch> = Vec::with_capacity(values.len());
    for value in values {
        if kept.iter().all(|known| !same(&known.name, &value.name)) {
            kept.push(value);
        }
    }
    kept
}

/// Whether `name` can be the name of a header (RFC 9110, section 5.6.2).
pub(super) fn is_token(name: &str) -> bool {
    let is_tchar = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.bytes().all(is_tchar)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    fn read_json(value: serde_json::Value) -> Result<Match, Fault> {
        read(&serde_json::from_value(value).unwrap())
    }

    #[test]
    fn defaults_are_those_of_the_schema() {
        assert_eq!(read_json(json!({})).unwrap(), Match::default());
        let path = read_json(json!({"path": {}})).unwrap().path;
        assert_eq!(path, Some(PathMatch::Prefix("/".into())));
        let header =
            json!({"headers": [{"name": "X-A", "value": "1"}, {"name": "x-a", "value": "2"}], "method": "GET"});
        let matches = read_json(header).unwrap();
        assert_eq!(matches.headers, [ValueMatch { name: "X-A".into(), value: "1".into(), regex: false }]);
        assert_eq!(matches.method.as_deref(), Some("GET"));
    }

    #[test]
    fn what_envoy_would_refuse_is_refused_here() {
        for bad in [
            json!({"path": {"value": "relative"}}),
            json!({"path": {"value": "/a?b"}}),
            json!({"path": {"type": "RegularExpression", "value": "*"}}),
            json!({"headers": [{"name": "x y", "value": "1"}]}),
            json!({"headers": [{"name": "x", "value": "(", "type": "RegularExpression"}]}),
            json!({"queryParams": [{"name": "x", "value": "[", "type": "RegularExpression"}]}),
        ] {
            assert_eq!(read_json(bad.clone()).unwrap_err().reason, "UnsupportedValue", "{bad}");
        }
    }
}
