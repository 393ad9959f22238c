//! Signed tokens, verified in Envoy.
//!
//! Providers and requirements are shared by all routes of a port and named by what they say.

use std::collections::{BTreeMap, HashSet};

use controller_api::security_policy::jwt::{Jwt, JwtProvider as Spec, RemoteJwks as RemoteSpec};
use envoy_types::pb::{
    envoy::{
        config::core::v3::{DataSource, HttpUri, data_source, http_uri::HttpUpstreamType},
        extensions::filters::{
            http::jwt_authn::v3::{
                JwksAsyncFetch, JwtAuthentication, JwtCacheConfig, JwtClaimToHeader, JwtHeader, JwtProvider,
                JwtRequirement, JwtRequirementOrList, PerRouteConfig, RemoteJwks,
                jwt_provider::{JwksSourceSpecifier, NormalizePayload},
                jwt_requirement::RequiresType,
                per_route_config::RequirementSpecifier,
            },
            network::http_connection_manager::v3::{HttpFilter, http_filter::ConfigType},
        },
    },
    google::protobuf::{Any, Empty},
};
use prost::{Message, Name};
use sha2::{Digest, Sha256};

use super::{Filter, retry::retry_policy};
use crate::{
    ir::{self, HttpRoute, Jwks, Security},
    xds::{
        Resources, canonical, cluster, hash,
        listener::Port,
        metadata, name,
        value::{any, duration, millis},
    },
};

pub(crate) const NAME: &str = "envoy.filters.http.jwt_authn";
/// Claims that hold a list as text, separated by spaces (RFC 8693, 4.2).
const SPACE_DELIMITED_CLAIMS: [&str; 2] = ["scope", "scp"];
/// Verified tokens that each of Envoy's workers remembers for a provider: a signature costs more than all else here.
const CACHED_TOKENS: u32 = 1000;
const FETCH_TIMEOUT_MS: u64 = 10_000;
/// Names are cut so that the hash always fits; upstream stays within 256 characters.
const MAX_READABLE_NAME: usize = 200;

pub(super) struct JwtAuthn;

impl Filter for JwtAuthn {
    fn chain(&self, port: &Port<'_>) -> Vec<HttpFilter> {
        let mut parts = port.pieces().filter_map(|piece| piece.tokens.as_ref()).peekable();
        if parts.peek().is_none() {
            return Vec::new();
        }
        let value = if port.is_sketch() { stand_in(parts) } else { entries(parts) };
        let config = Any { type_url: JwtAuthentication::type_url(), value };
        let filter = HttpFilter {
            name: NAME.to_owned(),
            config_type: Some(ConfigType::TypedConfig(config)),
            ..Default::default()
        };
        vec![filter]
    }

    fn route(&self, _listener: &str, route: &HttpRoute) -> Vec<(String, Any)> {
        let Some((security, jwt)) = spec(route) else { return Vec::new() };
        let (name, _) = requirement(jwt, &providers(security, jwt));
        let config = PerRouteConfig { requirement_specifier: Some(RequirementSpecifier::RequirementName(name)) };
        vec![(NAME.to_owned(), any(&config))]
    }

    fn resources(&self, port: &Port<'_>, resources: &mut Resources) {
        let mut known = HashSet::new();
        for (security, jwt) in port.routes().filter_map(|route| spec(route)) {
            for (provider, keys) in jwt.providers.iter().zip(&security.jwks) {
                let (Some(spec), Some(Jwks::Remote(remote))) = (&provider.remote_jwks, keys) else { continue };
                // Where several policies name a site, it has one cluster.
                if !known.insert(remote.destination.name.as_str()) {
                    continue;
                }
                if spec.backend_refs.is_empty() {
                    cluster::add_site(resources, &remote.destination, remote.server_name.as_deref());
                } else {
                    let metadata = metadata::of(&security.policy, None, &BTreeMap::new());
                    let settings = spec.backend_settings.as_deref().cloned().unwrap_or_default();
                    let certificate = port.client_certificate();
                    let options = cluster::Options { metadata: Some(&metadata), certificate, ..Default::default() };
                    cluster::add_for_policy(resources, &remote.destination, options, &settings);
                }
            }
        }
    }
}

/// What one route adds to the filter: its policy's providers and what it requires of a token.
#[derive(Debug)]
pub(crate) struct Part {
    /// Entries of the filter's maps, encoded as its fields.
    entries: Box<[Box<[u8]>]>,
    /// Of all of them.
    digest: [u8; 32],
}

impl Part {
    /// That of `route`, if it has a policy on tokens.
    pub(crate) fn of(route: &HttpRoute) -> Option<Self> {
        let (security, jwt) = spec(route)?;
        let providers = providers(security, jwt);
        let (name, requirement) = requirement(jwt, &providers);
        let requirement_map = [(name, requirement)].into();
        let with_requirement = JwtAuthentication { requirement_map, ..Default::default() };
        let with_provider = |provider| JwtAuthentication { providers: [provider].into(), ..Default::default() };
        let all = [with_requirement].into_iter().chain(providers.into_iter().map(with_provider));
        let encoded = all.map(|config| {
            let mut entry = config.encode_to_vec();
            canonical::sort(&JwtAuthentication::full_name(), &mut entry);
            entry.into()
        });
        let entries: Box<[Box<[u8]>]> = encoded.collect();
        let mut content = Sha256::new();
        entries.iter().for_each(|entry| content.update(entry));
        Some(Self { entries, digest: content.finalize().into() })
    }
}

/// The filter's maps.
fn entries<'p>(parts: impl Iterator<Item = &'p Part>) -> Vec<u8> {
    let mut entries: Vec<&[u8]> = parts.flat_map(|part| &part.entries).map(AsRef::as_ref).collect();
    // Names say what they name, so entries of one name are the same.
    entries.sort_unstable();
    entries.dedup();
    entries.concat()
}

/// One requirement, which is another one for other parts.
fn stand_in<'p>(parts: impl Iterator<Item = &'p Part>) -> Vec<u8> {
    let mut content = Sha256::new();
    parts.for_each(|part| content.update(part.digest));
    let requirement_map = [(format!("{:x}", content.finalize()), JwtRequirement::default())].into();
    JwtAuthentication { requirement_map, ..Default::default() }.encode_to_vec()
}

fn spec(route: &HttpRoute) -> Option<(&Security, &Jwt)> {
    let security = route.security.as_deref()?;
    Some((security, security.spec.jwt.as_ref()?))
}

/// The providers in the order of the policy, each with the name that it has in Envoy.
fn providers(security: &Security, jwt: &Jwt) -> Vec<(String, JwtProvider)> {
    let named = |(index, spec): (usize, &Spec)| {
        let provider = provider(spec, security.jwks.get(index).and_then(Option::as_ref));
        (hashed(&spec.name, &provider.encode_to_vec()), provider)
    };
    jwt.providers.iter().enumerate().map(named).collect()
}

fn keys(spec: &Spec, jwks: Option<&Jwks>) -> JwksSourceSpecifier {
    match jwks {
        Some(Jwks::Local(jwks)) => JwksSourceSpecifier::LocalJwks(DataSource {
            specifier: Some(data_source::Specifier::InlineString(jwks.clone())),
            ..Default::default()
        }),
        Some(Jwks::Remote(remote)) => {
            JwksSourceSpecifier::RemoteJwks(fetched(&spec.remote_jwks.clone().unwrap_or_default(), remote))
        }
        // Envoy refuses a key set without keys, and with it the whole listener. Keys that can never be fetched deny instead.
        None => JwksSourceSpecifier::RemoteJwks(RemoteJwks {
            http_uri: Some(http_uri("http://none.invalid", name::INVALID_BACKEND_CLUSTER, 1000)),
            ..Default::default()
        }),
    }
}

/// Keys that are fetched ahead of the first request, and again before they are too old.
fn fetched(spec: &RemoteSpec, remote: &ir::RemoteJwks) -> RemoteJwks {
    let settings = spec.backend_settings.as_deref();
    let timeout = settings.and_then(|settings| settings.timeout.as_ref()?.http.as_ref()?.request_timeout);
    RemoteJwks {
        http_uri: Some(http_uri(
            &spec.uri,
            &remote.destination.name,
            timeout.map_or(FETCH_TIMEOUT_MS, controller_api::Duration::as_millis),
        )),
        cache_duration: spec.cache_duration.map(duration),
        async_fetch: Some(JwksAsyncFetch {
            failed_refetch_duration: spec.failed_refetch_duration.map(duration),
            ..Default::default()
        }),
        retry_policy: settings.and_then(|settings| settings.retry.as_ref()).map(retry_policy),
    }
}

fn http_uri(uri: &str, cluster: &str, timeout_ms: u64) -> HttpUri {
    HttpUri {
        uri: uri.to_owned(),
        timeout: Some(millis(timeout_ms)),
        http_upstream_type: Some(HttpUpstreamType::Cluster(cluster.to_owned())),
    }
}

fn provider(spec: &Spec, jwks: Option<&Jwks>) -> JwtProvider {
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
        jwks_source_specifier: Some(keys(spec, jwks)),
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
