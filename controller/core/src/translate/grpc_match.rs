//! The matches of a GRPCRoute's rule, as the HTTP requests that gRPC calls are: `POST /<service>/<method>`.

use gateway_api::apis::experimental::grpcroutes::{
    GrpcRouteRulesMatches, GrpcRouteRulesMatchesHeadersType as HeaderType, GrpcRouteRulesMatchesMethod,
    GrpcRouteRulesMatchesMethodType as MethodType,
};

use super::{fault::Fault, re2, route_match};
use crate::ir::{Match, PathMatch};

/// Any name of a service, perhaps with a package.
const SERVICE: &str = r"\.?[A-Za-z_][A-Za-z_0-9]*(\.[A-Za-z_][A-Za-z_0-9]*)*";
/// Any name of a method.
const METHOD: &str = "[A-Za-z_][A-Za-z_0-9]*";

/// Reads one match with the defaults of its schema.
pub(super) fn read(spec: &GrpcRouteRulesMatches) -> Result<Match, Fault> {
    let headers = spec.headers.iter().flatten().map(|header| {
        let regex = header.r#type == Some(HeaderType::RegularExpression);
        route_match::header(&header.name, &header.value, regex)
    });
    Ok(Match {
        path: spec.method.as_ref().map(path).transpose()?.flatten(),
        headers: route_match::first_of_name(headers.collect::<Result<_, _>>()?, str::eq_ignore_ascii_case),
        ..Match::default()
    })
}

/// The path of the calls that `spec` means; `None` is every path.
fn path(spec: &GrpcRouteRulesMatchesMethod) -> Result<Option<PathMatch>, Fault> {
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let (service, method) = (given(&spec.service), given(&spec.method));
    if spec.r#type == Some(MethodType::RegularExpression) {
        let pattern = match (service, method) {
            (None, None) => return Ok(None),
            (service, method) => {
                format!("/{}/{}", pattern(service, SERVICE)?, pattern(method, METHOD)?)
            }
        };
        return Ok(Some(PathMatch::RegularExpression(pattern)));
    }
    for name in service.iter().chain(&method) {
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"_.".contains(&byte);
        if !name.bytes().all(is_name) {
            let message = format!("method match {name:?} is no name of a gRPC service or method");
            return Err(Fault::accepted("UnsupportedValue", message));
        }
    }
    Ok(match (service, method) {
        (None, None) => None,
        (Some(service), Some(method)) => Some(PathMatch::Exact(format!("/{service}/{method}"))),
        (Some(service), None) => Some(PathMatch::Prefix(format!("/{service}"))),
        (None, Some(method)) => Some(PathMatch::Suffix(format!("/{method}"))),
    })
}

/// A part of the path as a pattern that keeps its alternatives and flags to itself.
fn pattern(given: Option<String>, any: &str) -> Result<String, Fault> {
    let Some(pattern) = given else { return Ok(any.to_owned()) };
    re2::check(&pattern).map_err(|message| Fault::accepted("UnsupportedValue", message))?;
    Ok(if pattern.contains(['|', '?']) { format!("(?:{pattern})") } else { pattern })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    fn path_of(method: &serde_json::Value) -> Option<PathMatch> {
        read(&serde_json::from_value(json!({"method": method})).unwrap()).unwrap().path
    }

    #[test]
    fn names_are_compared_as_they_are() {
        let both = path_of(&json!({"service": "a.B", "method": "C"}));
        assert_eq!(both, Some(PathMatch::Exact("/a.B/C".into())));
        assert_eq!(path_of(&json!({"service": "a.B"})), Some(PathMatch::Prefix("/a.B".into())));
        assert_eq!(path_of(&json!({"method": "C", "type": "Exact"})), Some(PathMatch::Suffix("/C".into())));
        assert_eq!(path_of(&json!({})), None);
        let slash = serde_json::from_value(json!({"method": {"service": "a/b"}})).unwrap();
        assert_eq!(read(&slash).unwrap_err().reason, "UnsupportedValue");
    }

    #[test]
    fn patterns_cannot_reach_beyond_their_part_of_the_path() {
        let matches = |method: &serde_json::Value, path: &str| match path_of(method) {
            Some(PathMatch::RegularExpression(pattern)) => {
                regex::Regex::new(&format!("^(?:{pattern})$")).unwrap().is_match(path)
            }
            other => panic!("{other:?}"),
        };
        let either = json!({"service": "a|b", "method": "C|D", "type": "RegularExpression"});
        assert!(matches(&either, "/a/C") && matches(&either, "/b/D"));
        assert!(!matches(&either, "/a") && !matches(&either, "D"));
        let folded = json!({"service": "(?i)echo", "method": "Say", "type": "RegularExpression"});
        assert!(matches(&folded, "/ECHO/Say") && !matches(&folded, "/echo/SAY"));
        let any_service = json!({"method": "Say.*", "type": "RegularExpression"});
        assert!(matches(&any_service, "/pkg.Echo/SayHi") && !matches(&any_service, "/pkg/x/SayHi"));
        let any_method = json!({"service": "pkg\\.Echo", "type": "RegularExpression"});
        assert!(matches(&any_method, "/pkg.Echo/SayHi") && !matches(&any_method, "/pkgxEcho/SayHi"));
    }
}
