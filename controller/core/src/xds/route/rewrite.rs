//! How the path of a request changes on its way to the backend, or in a redirect.

use envoy_types::pb::envoy::r#type::matcher::v3::RegexMatchAndSubstitute;

use crate::{
    ir::{PathMatch, PathRewrite},
    xds::matcher::{quote, re2},
};

/// Envoy's ways to write a path anew.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Path {
    /// Replaces the whole path and keeps the query.
    Full(String),
    /// Replaces exactly what the route's prefix matched.
    Prefix(String),
    /// Replaces what a pattern matches.
    Regex(RegexMatchAndSubstitute),
}

/// What `rewrite` means for a route that matches `path`, by whole segments, so that neither `//` nor `/newfoo` comes out.
pub(super) fn path(rewrite: &PathRewrite, path: Option<&PathMatch>) -> Path {
    let replacement = match rewrite {
        PathRewrite::Full(path) => return Path::Full(path.clone()),
        PathRewrite::Regex { pattern, substitution } => return Path::Regex(regex(pattern, substitution)),
        PathRewrite::Prefix(replacement) => replacement.trim_end_matches('/'),
    };
    let prefix = match path {
        Some(PathMatch::Prefix(prefix)) => prefix.trim_end_matches('/'),
        None | Some(_) => "",
    };
    match (prefix, replacement) {
        // Envoy's prefix is `/` itself here, so the replacement has to end in the slash that it takes away.
        ("", replacement) => Path::Prefix(format!("{replacement}/")),
        // `/foo` becomes `/` but `/foo/bar` becomes `/bar`: only a pattern can take the slash along.
        (prefix, "") => Path::Regex(regex(&format!("^{}/*", quote(prefix)), "/")),
        (_, replacement) => Path::Prefix(replacement.to_owned()),
    }
}

/// Replaces what `pattern` matches.
pub(super) fn regex(pattern: &str, substitution: &str) -> RegexMatchAndSubstitute {
    RegexMatchAndSubstitute { pattern: Some(re2(pattern)), substitution: substitution.to_owned() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    /// What Envoy makes of `request`, which `prefix` has matched.
    fn rewritten(prefix: &str, replacement: &str, request: &str) -> String {
        let matched = PathMatch::Prefix(prefix.into());
        match path(&PathRewrite::Prefix(replacement.into()), Some(&matched)) {
            Path::Full(path) => path,
            Path::Prefix(new) => {
                let envoy_prefix = match prefix.trim_end_matches('/') {
                    "" => "/",
                    prefix => prefix,
                };
                format!("{new}{}", request.strip_prefix(envoy_prefix).unwrap())
            }
            Path::Regex(rewrite) => {
                let pattern = regex::Regex::new(&rewrite.pattern.unwrap().regex).unwrap();
                pattern.replace_all(request, rewrite.substitution).into_owned()
            }
        }
    }

    #[test]
    fn prefixes_are_replaced_by_segments() {
        // The table of Gateway API's `HTTPPathModifier.replacePrefixMatch`, then the root as prefix.
        for (request, prefix, replacement, expected) in [
            ("/foo/bar", "/foo", "/xyz", "/xyz/bar"),
            ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"),
            ("/foo/bar", "/foo/", "/xyz", "/xyz/bar"),
            ("/foo/bar", "/foo/", "/xyz/", "/xyz/bar"),
            ("/foo", "/foo", "/xyz", "/xyz"),
            ("/foo/", "/foo", "/xyz", "/xyz/"),
            ("/foo/bar", "/foo", "", "/bar"),
            ("/foo/", "/foo", "", "/"),
            ("/foo", "/foo", "", "/"),
            ("/foo/", "/foo", "/", "/"),
            ("/foo", "/foo", "/", "/"),
            ("/a.b/c", "/a.b", "/", "/c"),
            ("/bar", "/", "/xyz", "/xyz/bar"),
            ("/", "/", "/xyz", "/xyz/"),
            ("/bar", "/", "/", "/bar"),
        ] {
            assert_eq!(rewritten(prefix, replacement, request), expected, "{request} {prefix} {replacement}");
        }
    }

    #[test]
    fn a_route_without_a_path_matches_the_root() {
        let rewrite = PathRewrite::Prefix("/xyz".into());
        assert_eq!(path(&rewrite, None), Path::Prefix("/xyz/".into()));
    }
}
