//! Signed tokens, verified in Envoy.
//!
//! Providers and requirements are shared by all routes of a port and named by what they say.

use controller_api::security_policy::jwt::{Jwt, JwtProvider as Spec};
use envoy_types::pb::{
    envoy::{
        config::core::v3::{DataSource, HttpUri, data_source, http_uri::HttpUpstreamType},
        extensions::filters::{
            http::jwt_authn::v3::{
                JwtAuthentication, JwtCacheConfig, JwtClaimToHeader, JwtHeader, JwtProvider, JwtRequirement,
                JwtRequirementOrList, PerRouteConfig, RemoteJwks,
                jwt_provider::{JwksSourceSpecifier, NormalizePayload},
                jwt_requirement::RequiresType,
                per_route_config::RequirementSpecifier,
            },
            network::http_connection_manager::v3::HttpFilter,
        },
    },
    google::protobuf::{Any, Empty},
};
use prost::Message;

use super::{Filter, enabled};
use crate::{
    ir::{HttpListener, HttpRoute, Security},
    xds::{
        hash,
        listener::Port,
        name,
        value::{any, millis},
    },
};

pub(crate) const NAME: &str = "envoy.filters.http.jwt_authn";
/// Claims that hold a list as text, separated by spaces (RFC 8693, 4.2).
const SPACE_DELIMITED_CLAIMS: [&str; 2] = ["scope", "scp"];
/// Verified tokens that each of Envoy's workers remembers for a provider: a signature costs more than all else here.
const CACHED_TOKENS: u32 = 1000;
/// Names are cut so that the hash always fits; upstream stays within 256 characters.
const MAX_READABLE_NAME: usize = 200;

pub(super) struct JwtAuthn;

impl Filter for JwtAuthn {
    fn chain(&self, port: &Port<'_>) -> Vec<HttpFilter> {
        let mut config = JwtAuthentication::default();
        for (security, jwt) in port.routes().filter_map(|route| spec(route)) {
            let providers = providers(security, jwt);
            let (name, requirement) = requirement(jwt, &providers);
            config.requirement_map.insert(name, requirement);
            config.providers.extend(providers);
        }
        (!config.requirement_map.is_empty()).then(|| enabled(NAME, &config)).into_iter().collect()
    }

    fn route(&self, _port: &Port<'_>, _listener: &HttpListener, route: &HttpRoute) -> Vec<(String, Any)> {
        let Some((security, jwt)) = spec(route) else { return Vec::new() };
        let (name, _) = requirement(jwt, &providers(security, jwt));
        let config = PerRouteConfig { requirement_specifier: Some(RequirementSpecifier::RequirementName(name)) };
        vec![(NAME.to_owned(), any(&config))]
    }
}

fn spec(route: &HttpRoute) -> Option<(&Security, &Jwt)> {
    let security = route.security.as_deref()?;
    Some((security, security.spec.jwt.as_ref()?))
}

/// The providers in the order of the policy, each with the name that it has in Envoy.
fn providers(security: &Security, jwt: &Jwt) -> Vec<(String, JwtProvider)> {
    let named = |(index, spec): (usize, &Spec)| {
        let provider = provider(spec, security.jwks.get(index).and_then(Option::as_deref));
        (hashed(&spec.name, &provider.encode_to_vec()), provider)
    };
    jwt.providers.iter().enumerate().map(named).collect()
}

/// Envoy refuses a key set without keys, and with it the whole listener. Keys that can never be fetched deny instead.
fn keys(jwks: Option<&str>) -> JwksSourceSpecifier {
    match jwks {
        Some(jwks) => JwksSourceSpecifier::LocalJwks(DataSource {
            specifier: Some(data_source::Specifier::InlineString(jwks.to_owned())),
            ..Default::default()
        }),
        None => JwksSourceSpecifier::RemoteJwks(RemoteJwks {
            http_uri: Some(HttpUri {
                uri: "http://none.invalid".into(),
                timeout: Some(millis(1000)),
                http_upstream_type: Some(HttpUpstreamType::Cluster(name::INVALID_BACKEND_CLUSTER.into())),
            }),
            ..Default::default()
        }),
    }
}

fn provider(spec: &Spec, jwks: Option<&str>) -> JwtProvider {
    let from = spec.extract_from.clone().unwrap_or_default();
    let header = |header: controller_api::security_policy::jwt::JwtHeaderExtractor| JwtHeader {
        name: header.name,
        value_prefix: header.value_prefix.unwrap_or_default(),
    };
    let claim = |claim: &controller_api::security_policy::jwt::ClaimToHeader| JwtClaimToHeader {
        header_name: claim.header.clone(),
        claim_name: claim.claim.clone(),
        ..Default::default()
    };
    JwtProvider {
        issuer: spec.issuer.clone().unwrap_or_default(),
        audiences: spec.audiences.clone(),
        forward: true,
        payload_in_metadata: spec.name.clone(),
        normalize_payload_in_metadata: Some(NormalizePayload {
            space_delimited_claims: SPACE_DELIMITED_CLAIMS.map(str::to_owned).into(),
        }),
        claim_to_headers: spec.claim_to_headers.iter().map(claim).collect(),
        clear_route_cache: spec.recompute_route.unwrap_or(false),
        from_headers: from.headers.into_iter().map(header).collect(),
        from_cookies: from.cookies,
        from_params: from.params,
        jwt_cache_config: Some(JwtCacheConfig { jwt_cache_size: CACHED_TOKENS, ..Default::default() }),
        jwks_source_specifier: Some(keys(jwks)),
        ..Default::default()
    }
}

/// A token of any of the providers, or less where the policy is content with less.
fn requirement(jwt: &Jwt, providers: &[(String, JwtProvider)]) -> (String, JwtRequirement) {
    let one = |requires| JwtRequirement { requires_type: Some(requires) };
    let mut any_of: Vec<JwtRequirement> =
        providers.iter().map(|(name, _)| one(RequiresType::ProviderName(name.clone()))).collect();
    let mut readable = jwt.providers.iter().map(|spec| spec.name.as_str()).collect::<Vec<_>>().join("-or-");
    if jwt.fail_open.unwrap_or(false) {
        any_of.push(one(RequiresType::AllowMissingOrFailed(Empty::default())));
        readable.push_str("-or-missing-or-failed");
    } else if jwt.optional.unwrap_or(false) {
        any_of.push(one(RequiresType::AllowMissing(Empty::default())));
        readable.push_str("-or-missing");
    }
    let requirement = match <[JwtRequirement; 1]>::try_from(any_of) {
        Ok([only]) => only,
        Err(requirements) => one(RequiresType::RequiresAny(JwtRequirementOrList { requirements })),
    };
    (hashed(&readable, &requirement.encode_to_vec()), requirement)
}

fn hashed(readable: &str, content: &[u8]) -> String {
    let readable: String = readable.chars().take(MAX_READABLE_NAME).collect();
    format!("{readable}_{}", hash(content))
}
