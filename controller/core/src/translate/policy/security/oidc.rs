//! Logins: made out here, done by `extauth`.

use controller_api::{
    Duration,
    backend_ref::BackendRef,
    security_policy::{
        SecurityPolicySpec,
        jwt::{Jwt, JwtProvider},
        oidc::{Oidc, OidcDenyRedirectHeader, OidcProvider, SameSite, StringMatchType},
    },
};
use proto::extauth::{self, Method, Policy, Secret};

use super::{Layers, destination, header, provider_settings, secret};
use crate::{
    ir::{Jwks, ObjectRef},
    translate::{inputs::Inputs, re2},
};

/// Under this name rules and rate limits find the claims of a session.
const PROVIDER: &str = "oidc";
/// Where browsers come back to, unless a policy says otherwise.
const CALLBACK: &str = "%REQ(x-forwarded-proto)%://%REQ(:authority)%/oauth2/callback";
const LOGOUT: &str = "/logout";

/// The policy that `extauth` serves. The error is a sentence without its full stop.
pub(super) fn resolve(
    oidc: &Oidc,
    tokens: Option<(&Jwt, &[Option<Jwks>])>,
    inputs: &Inputs<'_>,
    layers: Layers<'_>,
) -> Result<Policy, String> {
    build(oidc, tokens, inputs, layers).map_err(|error| format!("OIDC: {error}"))
}

fn build(
    oidc: &Oidc,
    tokens: Option<(&Jwt, &[Option<Jwks>])>,
    inputs: &Inputs<'_>,
    layers: Layers<'_>,
) -> Result<Policy, String> {
    if inputs.settings.extauth.is_none() {
        return Err("logins need the extauth service, which is turned off".into());
    }
    let redirect_url = oidc.redirect_url.as_deref().unwrap_or(CALLBACK);
    let logout_path = oidc.logout_path.as_deref().unwrap_or(LOGOUT);
    check_paths(redirect_url, logout_path)?;
    let forward_access_token = oidc.forward_access_token.unwrap_or(false);
    let forward_id_token = oidc.forward_id_token.as_ref().map(|forward| forward.header.as_str());
    if let Some(name) = forward_id_token.filter(|name| !header::can_be_set(name)) {
        return Err(format!("spec.oidc.forwardIDToken.header {name:?} is no header that can be set"));
    }
    if forward_access_token && forward_id_token.is_some_and(|name| name.eq_ignore_ascii_case("authorization")) {
        return Err("forwardAccessToken cannot be true when forwardIDToken.header is Authorization".into());
    }
    if oidc.cookie_domain.as_ref().is_some_and(|domain| domain.is_empty() || domain.starts_with('.')) {
        return Err("spec.oidc.cookieDomain must be a domain, such as example.com".into());
    }
    let login = extauth::Oidc {
        providers: vec![provider(oidc, inputs, layers)?],
        redirect_url: Some(redirect_url.to_owned()),
        logout_path: logout_path.to_owned(),
        back_channel_logout_path: back_channel_logout(oidc),
        deny_redirect: extauth::DenyRedirect { headers: denied(oidc)? },
        cookie: extauth::SessionCookie {
            domain: oidc.cookie_domain.clone(),
            same_site: same_site(oidc),
            ..extauth::SessionCookie::default()
        },
        csrf_token_ttl_seconds: seconds(oidc.csrf_token_ttl).unwrap_or(600),
        forward_access_token,
        forward_id_token: forward_id_token.map(|header| extauth::ForwardIdToken { header: header.to_owned() }),
        cookie_names: oidc.cookie_names.clone().map_or_else(extauth::CookieNames::default, |names| {
            extauth::CookieNames { access_token: names.access_token, id_token: names.id_token }
        }),
        ..extauth::Oidc::default()
    };
    let mut methods = if oidc.pass_through_auth_header == Some(true) { bearers(tokens)? } else { Vec::new() };
    methods.push(Method::Oidc(Box::new(login)));
    Ok(Policy { name: format!("{}/oidc", layers.name(|spec| spec.oidc.is_some())), methods, ..Policy::default() })
}

/// Where a provider says that a session has ended: beside the path where browsers come back.
pub(super) fn back_channel_logout(oidc: &Oidc) -> String {
    let url = oidc.redirect_url.as_deref().unwrap_or(CALLBACK);
    let path = url.split_once("://").and_then(|(_, rest)| rest.split_once('/')).map_or("", |(_, path)| path);
    let folder = path.rsplit_once('/').map(|(folder, _)| format!("/{folder}")).unwrap_or_default();
    format!("{folder}/backchannel-logout")
}

/// The callback has a path of its own, or it would take requests away from the backend or from the logout.
fn check_paths(redirect_url: &str, logout_path: &str) -> Result<(), String> {
    let url = redirect_url.split_once("://").and_then(|(scheme, rest)| {
        let (authority, path) = rest.split_once('/')?;
        (["http", "https", "%REQ(x-forwarded-proto)%"].contains(&scheme) && !authority.is_empty()).then_some(path)
    });
    let Some(path) = url.filter(|path| !path.is_empty() && !path.contains(['?', '#'])) else {
        return Err(format!("spec.oidc.redirectURL {redirect_url:?} must be a URL with a path other than /"));
    };
    if !logout_path.starts_with('/') || logout_path.contains(['?', '#']) || logout_path.get(1..) == Some(path) {
        return Err(format!("spec.oidc.logoutPath {logout_path:?} must be a path other than that of the redirectURL"));
    }
    Ok(())
}

/// The provider's backendRefs, and the policy that they stand in.
pub(super) fn references<'a>(oidc: &'a Oidc, layers: Layers<'a>) -> (&'a ObjectRef, &'a [BackendRef]) {
    let has = |spec: &SecurityPolicySpec| spec.oidc.as_ref().is_some_and(|oidc| !oidc.provider.backend_refs.is_empty());
    (layers.owner(has), &oidc.provider.backend_refs)
}

fn provider(oidc: &Oidc, inputs: &Inputs<'_>, layers: Layers<'_>) -> Result<extauth::OidcProvider, String> {
    let OidcProvider { issuer, authorization_endpoint, token_endpoint, end_session_endpoint, .. } = &oidc.provider;
    for (field, url) in [
        ("issuer", Some(issuer)),
        ("authorizationEndpoint", authorization_endpoint.as_ref()),
        ("tokenEndpoint", token_endpoint.as_ref()),
        ("endSessionEndpoint", end_session_endpoint.as_ref()),
    ] {
        if url.is_some_and(|url| !is_url(url)) {
            return Err(format!("spec.oidc.provider.{field} must be an http or https URL"));
        }
    }
    if oidc.provider.backend_ref.is_some() {
        return Err("spec.oidc.provider.backendRef is not supported, use backendRefs".into());
    }
    let owner =
        |has: fn(&Oidc) -> bool| layers.owner(move |spec: &SecurityPolicySpec| spec.oidc.as_deref().is_some_and(has));
    let client_id = match (&oidc.client_id, &oidc.client_id_ref) {
        (Some(id), None) if !id.is_empty() => id.clone(),
        (None, Some(reference)) => {
            secret::text(reference, "client-id", "client ID", owner(|oidc| oidc.client_id_ref.is_some()), inputs)?
        }
        _ => return Err("only one of clientID or clientIDRef must be set".into()),
    };
    let (holder, references) = references(oidc, layers);
    let destination = destination::resolve(
        &format!("{}/oidc/0", layers.name(|spec| spec.oidc.is_some())),
        references,
        holder,
        inputs,
    )?;
    let backends = destination.map(|(destination, _)| destination::backends(&destination)).transpose();
    let backends = backends.map_err(|error| format!("spec.oidc.provider.backendRefs: {error}"))?;
    let settings = oidc.provider.backend_settings.as_deref();
    let owner: &ObjectRef = owner(|_| true);
    let client_secret = secret::text(&oidc.client_secret, "client-secret", "client secret", owner, inputs)?;
    Ok(extauth::OidcProvider {
        name: PROVIDER.into(),
        issuer: issuer.clone(),
        authorization_endpoint: authorization_endpoint.clone(),
        token_endpoint: token_endpoint.clone(),
        end_session_endpoint: end_session_endpoint.clone(),
        backends,
        request_timeout_ms: settings.and_then(provider_settings::request_timeout_ms),
        retry: settings.and_then(provider_settings::retry),
        // Whoever writes a URL without TLS has chosen it.
        allow_http: true,
        client_id,
        client_secret: Some(Secret::new(client_secret)),
        scopes: oidc.scopes.iter().filter(|scope| *scope != "openid").cloned().collect(),
        resources: oidc.resources.clone(),
        refresh_token: oidc.refresh_token.unwrap_or(true),
        default_token_ttl_seconds: seconds(oidc.default_token_ttl).unwrap_or_default(),
        default_refresh_token_ttl_seconds: seconds(oidc.default_refresh_token_ttl).unwrap_or_default(),
        ..extauth::OidcProvider::default()
    })
}

/// Tokens that stand for a session. They are verified here as well as in Envoy: a header alone lets nobody pass.
fn bearers(tokens: Option<(&Jwt, &[Option<Jwks>])>) -> Result<Vec<Method>, String> {
    let Some((jwt, key_sets)) = tokens else { return Err("passThroughAuthHeader needs spec.jwt".into()) };
    let methods = jwt.providers.iter().zip(key_sets).map(|(provider, keys)| {
        let refused = |why: &str| format!("passThroughAuthHeader: the provider {} of spec.jwt {why}", provider.name);
        let Some(issuer) = &provider.issuer else { return Err(refused("must have an issuer")) };
        if provider.audiences.is_empty() {
            return Err(refused("must have audiences"));
        }
        match (keys, &provider.remote_jwks) {
            (Some(Jwks::Local(jwks)), _) => {
                Ok(bearer(provider, issuer, extauth::Jwt { jwks: Some(jwks.clone()), ..extauth::Jwt::default() }))
            }
            (Some(Jwks::Remote(keys)), Some(remote)) => {
                let from_backends = (!remote.backend_refs.is_empty()).then(|| destination::backends(&keys.destination));
                let keys = extauth::Jwt {
                    jwks_uri: Some(remote.uri.clone()),
                    backends: from_backends.transpose().map_err(|error| refused(&format!("has backends: {error}")))?,
                    ..extauth::Jwt::default()
                };
                Ok(bearer(provider, issuer, keys))
            }
            _ => Err(refused("is in error")),
        }
    });
    methods.collect()
}

fn bearer(provider: &JwtProvider, issuer: &str, keys: extauth::Jwt) -> Method {
    Method::Jwt(extauth::Jwt {
        name: provider.name.clone(),
        issuer: issuer.to_owned(),
        audiences: provider.audiences.clone(),
        leeway_seconds: 60,
        ..keys
    })
}

fn denied(oidc: &Oidc) -> Result<Vec<extauth::HeaderMatch>, String> {
    let headers = oidc.deny_redirect.iter().flat_map(|deny| &deny.headers).enumerate();
    let read = headers.map(|(index, OidcDenyRedirectHeader { name, kind, value })| {
        let refused = |why: &str| format!("spec.oidc.denyRedirect.headers[{index}] {why}");
        if !header::is_token(name) || value.is_empty() {
            return Err(refused("must have a name and a value"));
        }
        let kind = match kind.unwrap_or_default() {
            StringMatchType::Exact => extauth::StringMatch::Exact,
            StringMatchType::Prefix => extauth::StringMatch::Prefix,
            StringMatchType::Suffix => extauth::StringMatch::Suffix,
            StringMatchType::RegularExpression => {
                re2::check(value).map_err(|error| refused(&error))?;
                extauth::StringMatch::RegularExpression
            }
        };
        Ok(extauth::HeaderMatch { name: name.clone(), kind, value: value.clone() })
    });
    read.collect()
}

fn same_site(oidc: &Oidc) -> extauth::SameSite {
    match oidc.cookie_config.as_ref().and_then(|config| config.same_site) {
        Some(SameSite::Strict) => extauth::SameSite::Strict,
        Some(SameSite::None) => extauth::SameSite::None,
        Some(SameSite::Lax) | None => extauth::SameSite::Lax,
    }
}

/// Rounded up: no length becomes none.
fn seconds(duration: Option<Duration>) -> Option<u64> {
    duration.map(|duration| duration.as_millis().div_ceil(1000))
}

fn is_url(text: &str) -> bool {
    let uri = text.parse::<http::Uri>().ok();
    uri.is_some_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some_and(|host| !host.is_empty())
    })
}
