//! `HTTPRouteFilter`: what an `ExtensionRef` filter adds to a rule.

use controller_api::http_route_filter::{
    CookieMatchType, CookieMatches, CredentialInjection, DirectResponse, HostnameRewrite, HostnameRewriteType,
    HttpRouteFilter, HttpRouteFilterSpec, RegexReplacement, ResponseBodyType, UrlRewrite,
};
use gateway_api::apis::experimental::httproutes::HttpRouteRulesFiltersExtensionRef as ExtensionRef;

use super::{
    fault::Fault,
    grant::{self, Target},
    header_modifier::{self, Direction},
    inputs::Inputs,
    re2,
    route_filter::{Filters, Response},
    route_match::{self, is_token},
};
use crate::ir::{Credential, HostRewrite, ObjectRef, PathRewrite, Rewrite, ValueMatch};

const ENVOY_GATEWAY: &str = "gateway.envoyproxy.io";
/// Key of a ConfigMap with the text of an answer.
const BODY_KEY: &str = "response.body";
/// Key of a Secret with a credential.
const CREDENTIAL_KEY: &str = "credential";
/// Longest text that Envoy answers with by itself.
const MAX_BODY: usize = 4096;

/// Adds what the object says that `reference` names, in the route's own `namespace`.
pub(super) fn add(
    filters: &mut Filters,
    inputs: &Inputs<'_>,
    namespace: &str,
    reference: &ExtensionRef,
) -> Result<(), Fault> {
    if reference.group != ENVOY_GATEWAY || reference.kind != "HTTPRouteFilter" {
        let message = format!("invalid filter ExtensionRef: unknown kind {}/{}", reference.group, reference.kind);
        return Err(Fault::accepted("UnsupportedValue", message));
    }
    let object = find(inputs, namespace, &reference.name)?;
    let spec = &object.spec;
    let owner = ObjectRef { kind: "HTTPRouteFilter", namespace: namespace.to_owned(), name: reference.name.clone() };
    if let Some(spec) = &spec.url_rewrite {
        filters.add_rewrite(rewrite(spec)?)?;
    }
    if let Some(spec) = &spec.direct_response {
        respond(filters, spec, &owner, inputs)?;
    }
    if let Some(spec) = &spec.credential_injection {
        filters.http.credential = Some(Box::new(credential(spec, &owner, inputs)?));
    }
    add_cookies(filters, spec)
}

/// The object, which may not be there.
fn find<'s>(inputs: &Inputs<'s>, namespace: &str, name: &str) -> Result<&'s HttpRouteFilter, Fault> {
    let key = (namespace.to_owned(), name.to_owned());
    inputs.snapshot.http_route_filters.get(&key).map(AsRef::as_ref).ok_or_else(|| {
        let message = format!("unable to translate HTTPRouteFilter: {namespace}/{name}");
        Fault::resolved_refs("UnsupportedValue", message)
    })
}

fn unsupported(message: impl Into<String>) -> Fault {
    Fault::accepted("UnsupportedValue", message)
}

fn rewrite(spec: &UrlRewrite) -> Result<Rewrite, Fault> {
    let path = spec.path.as_ref().map(|path| {
        let replacement = path.replace_regex_match.as_ref().ok_or_else(|| {
            unsupported("replaceRegexMatch must be set when urlRewrite path type is \"ReplaceRegexMatch\"")
        })?;
        let RegexReplacement { pattern, substitution } = checked(replacement)?;
        Ok(PathRewrite::Regex { pattern, substitution })
    });
    Ok(Rewrite {
        hostname: spec.hostname.as_ref().map(host_rewrite).transpose()?,
        append_x_forwarded_host: spec.append_x_forwarded_host.unwrap_or(true),
        path: path.transpose()?,
    })
}

fn host_rewrite(spec: &HostnameRewrite) -> Result<HostRewrite, Fault> {
    match (spec.kind, &spec.header, &spec.path_regex) {
        (HostnameRewriteType::Header, Some(header), _) if is_token(header) => Ok(HostRewrite::Header(header.clone())),
        (HostnameRewriteType::Header, ..) => {
            Err(unsupported("header must be set to a header's name when urlRewrite hostname type is \"Header\""))
        }
        (HostnameRewriteType::Backend, ..) => Ok(HostRewrite::Backend),
        (HostnameRewriteType::PathRegex, _, Some(replacement)) => {
            let RegexReplacement { pattern, substitution } = checked(replacement)?;
            Ok(HostRewrite::PathRegex { pattern, substitution })
        }
        (HostnameRewriteType::PathRegex, _, None) => {
            Err(unsupported("pathRegex must be set when urlRewrite hostname type is \"PathRegex\""))
        }
    }
}

/// A replacement that Envoy takes.
fn checked(replacement: &RegexReplacement) -> Result<RegexReplacement, Fault> {
    re2::check(&replacement.pattern).map_err(unsupported)?;
    let substitution = &replacement.substitution;
    let groups = regex::Regex::new(&replacement.pattern).map_or(0, |regex| regex.captures_len());
    if substitution.contains(['\r', '\n', '\0']) || !are_groups(substitution, groups) {
        let message = format!("substitution {substitution:?} is invalid or refers to a group that the pattern lacks");
        return Err(unsupported(message));
    }
    Ok(replacement.clone())
}

/// Whether every `\` is followed by another one, or by the number of one of `groups` groups.
fn are_groups(substitution: &str, groups: usize) -> bool {
    let mut letters = substitution.chars();
    while let Some(letter) = letters.next() {
        if letter == '\\' {
            match letters.next() {
                Some('\\') => {}
                Some(digit) if digit.to_digit(10).is_some_and(|group| (group as usize) < groups) => {}
                _ => return false,
            }
        }
    }
    true
}

fn respond(filters: &mut Filters, spec: &DirectResponse, owner: &ObjectRef, inputs: &Inputs<'_>) -> Result<(), Fault> {
    if filters.response.is_some() {
        return Err(unsupported("cannot configure multiple directResponse filters for a single rule"));
    }
    let status = spec.status_code.unwrap_or(200);
    if !(200..=599).contains(&status) {
        return Err(unsupported(format!("directResponse status code {status} is invalid, must be 200 to 599")));
    }
    if spec.header.as_ref().is_some_and(|header| !header.remove.is_empty()) {
        return Err(unsupported("invalid filter HTTPRouteFilter: header.remove is not supported for directResponse"));
    }
    let text = body(spec, owner, inputs)?;
    filters.response = Some(Response { status, format: header_modifier::is_format(&text), body: text });
    header_modifier::add(&mut filters.response_headers, Direction::Response, spec)
}

fn body(spec: &DirectResponse, owner: &ObjectRef, inputs: &Inputs<'_>) -> Result<String, Fault> {
    let Some(body) = &spec.body else { return Ok(String::new()) };
    let text = match (body.kind, &body.inline, &body.value_ref) {
        (ResponseBodyType::Inline, Some(text), _) => text.clone(),
        (ResponseBodyType::ValueRef, _, Some(reference)) if reference.kind == "ConfigMap" => {
            let key = (owner.namespace.clone(), reference.name.clone());
            let place = format!("ConfigMap {}/{}", owner.namespace, reference.name);
            let Some(config_map) = inputs.snapshot.config_maps.get(&key) else {
                return Err(unsupported(format!("invalid filter HTTPRouteFilter: can't find the referenced {place}")));
            };
            let data = config_map.data.as_ref();
            let value = data.and_then(|data| data.get(BODY_KEY).or_else(|| data.values().next()));
            let missing = || unsupported(format!("invalid filter HTTPRouteFilter: {place} has no {BODY_KEY}"));
            value.cloned().ok_or_else(missing)?
        }
        _ => return Err(unsupported("invalid filter HTTPRouteFilter: body needs inline text or a ConfigMap")),
    };
    if text.len() > MAX_BODY {
        let message = format!("response.body size {} greater than the max size {MAX_BODY}", text.len());
        return Err(unsupported(format!("invalid filter HTTPRouteFilter: {message}")));
    }
    Ok(text)
}

fn credential(spec: &CredentialInjection, owner: &ObjectRef, inputs: &Inputs<'_>) -> Result<Credential, Fault> {
    let invalid = |cause: String| unsupported(format!("invalid filter HTTPRouteFilter: {cause}"));
    let header = spec.header.as_deref().filter(|header| !header.is_empty());
    if let Some(header) = header.filter(|header| !is_token(header)) {
        return Err(invalid(format!("header name {header:?} is invalid")));
    }
    let reference = &spec.credential.value_ref;
    if reference.kind.as_deref().is_some_and(|kind| kind != "Secret") {
        return Err(invalid("credential.valueRef must refer to a Secret".to_owned()));
    }
    let (namespace, name) = (reference.namespace.as_deref().unwrap_or(&owner.namespace), &reference.name);
    let from = grant::Referrer { group: ENVOY_GATEWAY, kind: owner.kind, namespace: &owner.namespace };
    if !grant::permits(inputs.snapshot, from, Target { group: "", kind: "Secret", namespace, name }) {
        return Err(invalid(format!("ref to Secret {namespace}/{name} not permitted by any ReferenceGrant")));
    }
    let Some(secret) = inputs.snapshot.secrets.get(&(namespace.to_owned(), name.clone())) else {
        return Err(invalid(format!("secret {namespace}/{name} does not exist")));
    };
    let value = secret.data.as_ref().and_then(|data| data.get(CREDENTIAL_KEY)).map(|value| value.0.clone());
    let Some(value) = value.filter(|value| !value.is_empty()) else {
        return Err(invalid(format!("{CREDENTIAL_KEY} not found in secret {namespace}/{name}")));
    };
    Ok(Credential {
        owner: owner.clone(),
        header: header.map(ToOwned::to_owned),
        overwrite: spec.overwrite.unwrap_or(false),
        value,
    })
}

/// The alternatives of a rule, which come from one filter only.
fn add_cookies(filters: &mut Filters, spec: &HttpRouteFilterSpec) -> Result<(), Fault> {
    let read = |matches: &CookieMatches| -> Result<Vec<ValueMatch>, Fault> {
        let cookies = matches.cookies.iter().map(|cookie| {
            if !is_token(&cookie.name) {
                return Err(unsupported(format!("cookie name {:?} is invalid", cookie.name)));
            }
            let regex = cookie.kind == CookieMatchType::RegularExpression;
            route_match::value(cookie.name.clone(), &cookie.value, regex)
        });
        cookies.collect()
    };
    let cookies: Vec<_> = spec.matches.iter().map(read).collect::<Result<_, _>>()?;
    if !cookies.is_empty() && !filters.cookies.is_empty() {
        return Err(unsupported("only one HTTPRouteFilter with matches is supported per HTTPRouteRule"));
    }
    filters.cookies.extend(cookies);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::are_groups;

    #[test]
    fn substitutions_refer_to_groups_that_are_there() {
        assert!(are_groups(r"/a/\1\\", 2) && are_groups(r"\0", 1) && are_groups("", 1));
        assert!(!are_groups(r"\1", 1) && !are_groups(r"\", 2) && !are_groups(r"\x", 2));
    }
}
