//! External authorization: by the service of a policy's own `extAuth`, and by `extauth` for the methods it serves.
//!
//! Every instance is off unless a route says otherwise, and what cannot be asked denies unless the policy fails open.

use std::collections::{BTreeMap, HashMap};

use controller_api::{
    Duration,
    cluster_settings::{ClusterSettings, Retry},
};
use envoy_types::pb::{
    envoy::{
        config::core::v3::{
            ApiVersion, BackoffStrategy, GrpcService, RetryPolicy,
            grpc_service::{EnvoyGrpc, TargetSpecifier},
        },
        extensions::filters::{
            http::ext_authz::v3::{
                BufferSettings, CheckSettings, ExtAuthz as Config, ExtAuthzPerRoute, ext_authz::Services,
                ext_authz_per_route::Override,
            },
            network::http_connection_manager::v3::HttpFilter,
        },
        r#type::{
            matcher::v3::{ListStringMatcher, StringMatcher},
            v3::{HttpStatus, StatusCode},
        },
    },
    google::protobuf::Any,
};

use super::{Filter, disabled};
use crate::{
    ir::{ExtAuth, HttpListener, HttpRoute, Security},
    xds::{
        Resources, cluster,
        listener::Port,
        matcher::exact,
        metadata, name, service,
        value::{any, millis, uint32},
    },
};

const NAME: &str = "envoy.filters.http.ext_authz";
/// The key under which `extauth` reads which of its policies to apply.
const POLICY: &str = "policy";
const TIMEOUT_MS: u64 = 10_000;
/// `extauth` may have to ask an identity provider before it can answer.
const EXTAUTH_TIMEOUT_MS: u64 = 5_000;

pub(super) struct ExtAuthz;

impl Filter for ExtAuthz {
    fn chain(&self, port: &Port<'_>) -> Vec<HttpFilter> {
        let is_served = port.routes().any(|route| auth_policy(route).is_some());
        let own =
            own(port).into_iter().map(|(name, (security, ext_auth))| disabled(&name, &config(security, ext_auth)));
        is_served.then(|| disabled(NAME, &extauth())).into_iter().chain(own).collect()
    }

    fn route(&self, _port: &Port<'_>, _listener: &HttpListener, route: &HttpRoute) -> Vec<(String, Any)> {
        let served = auth_policy(route)
            .map(|policy| (NAME.to_owned(), check(HashMap::from([(POLICY.to_owned(), policy.to_owned())]))));
        let own = ext_auth(route).map(|(_, ext_auth)| {
            let extensions = ext_auth.context_extensions.clone().into_iter().collect();
            (instance(ext_auth), check(extensions))
        });
        served.into_iter().chain(own).collect()
    }

    fn resources(&self, port: &Port<'_>, resources: &mut Resources) {
        let is_served = port.routes().any(|route| auth_policy(route).is_some());
        if let Some(address) = port.settings.extauth.as_ref().filter(|_| is_served) {
            service::add(resources, name::EXTAUTH_CLUSTER, address, port.settings);
        }
        for (security, ext_auth) in own(port).into_values() {
            let metadata = metadata::of(&security.policy, None, &BTreeMap::new());
            let settings = backend_settings(security).cloned().unwrap_or_default();
            cluster::add_grpc(resources, &ext_auth.destination, Some(&metadata), &settings);
        }
    }
}

fn auth_policy(route: &HttpRoute) -> Option<&str> {
    route.security.as_ref()?.auth_policy.as_deref()
}

fn ext_auth(route: &HttpRoute) -> Option<(&Security, &ExtAuth)> {
    let security = route.security.as_deref()?;
    Some((security, security.ext_auth.as_ref()?))
}

/// The instances of `extAuth` policies, by name.
fn own<'a>(port: &Port<'a>) -> BTreeMap<String, (&'a Security, &'a ExtAuth)> {
    port.routes().filter_map(ext_auth).map(|(security, ext_auth)| (instance(ext_auth), (security, ext_auth))).collect()
}

/// Named after the policy that the backend belongs to, so that those who inherit it share the instance.
fn instance(ext_auth: &ExtAuth) -> String {
    let cluster = &ext_auth.destination.name;
    let owner = cluster.rsplit_once("/extauth/").map_or(cluster.as_str(), |(owner, _)| owner);
    format!("{NAME}/{owner}")
}

fn check(context_extensions: HashMap<String, String>) -> Any {
    let settings = CheckSettings { context_extensions, ..Default::default() };
    any(&ExtAuthzPerRoute { r#override: Some(Override::CheckSettings(settings)) })
}

fn extauth() -> Config {
    let service = grpc(name::EXTAUTH_CLUSTER, "", EXTAUTH_TIMEOUT_MS, None);
    Config {
        transport_api_version: ApiVersion::V3.into(),
        services: Some(Services::GrpcService(service)),
        status_on_error: Some(HttpStatus { code: StatusCode::ServiceUnavailable.into() }),
        ..Default::default()
    }
}

fn config(security: &Security, ext_auth: &ExtAuth) -> Config {
    let spec = security.spec.ext_auth.clone().unwrap_or_default();
    let timeout = spec.timeout.map_or(TIMEOUT_MS, Duration::as_millis);
    let retry = backend_settings(security).and_then(|settings| settings.retry.as_ref()).map(retry_policy);
    let service = grpc(&ext_auth.destination.name, &ext_auth.authority, timeout, retry);
    let route_metadata = spec.include_route_metadata.unwrap_or(false).then(|| name::METADATA.to_owned());
    Config {
        transport_api_version: ApiVersion::V3.into(),
        services: Some(Services::GrpcService(service)),
        failure_mode_allow: spec.fail_open.unwrap_or(false),
        clear_route_cache: spec.recompute_route.unwrap_or(false),
        status_on_error: spec.status_on_error.and_then(status_on_error),
        route_metadata_context_namespaces: route_metadata.into_iter().collect(),
        with_request_body: spec
            .body_to_ext_auth
            .map(|body| BufferSettings { max_request_bytes: body.max_request_bytes, ..Default::default() }),
        allowed_headers: spec.headers_to_ext_auth.map(|headers| allowed(&headers)),
        ..Default::default()
    }
}

/// Envoy knows only the statuses of its own list and refuses the others; 403 stands for them.
fn status_on_error(status: u16) -> Option<HttpStatus> {
    let code = StatusCode::try_from(i32::from(status)).ok()?;
    Some(HttpStatus { code: code.into() })
}

fn backend_settings(security: &Security) -> Option<&ClusterSettings> {
    security.spec.ext_auth.as_ref()?.grpc.as_ref()?.backend_settings.as_ref()
}

fn allowed(headers: &[String]) -> ListStringMatcher {
    let patterns = headers.iter().map(|header| StringMatcher { ignore_case: true, ..exact(header) });
    ListStringMatcher { patterns: patterns.collect() }
}

fn grpc(cluster: &str, authority: &str, timeout_ms: u64, retry_policy: Option<RetryPolicy>) -> GrpcService {
    let target = EnvoyGrpc { cluster_name: cluster.into(), authority: authority.into(), ..Default::default() };
    GrpcService {
        target_specifier: Some(TargetSpecifier::EnvoyGrpc(target)),
        timeout: Some(millis(timeout_ms)),
        retry_policy,
        ..Default::default()
    }
}

fn retry_policy(retry: &Retry) -> RetryPolicy {
    let triggers = retry.retry_on.iter().flat_map(|on| &on.triggers).map(|trigger| trigger.as_str());
    let back_off = retry.per_retry.as_ref().and_then(|per_retry| per_retry.back_off.as_ref());
    // Envoy refuses a longest pause below the base.
    let back_off = back_off.and_then(|back_off| {
        let base = back_off.base_interval?.as_millis().max(1);
        let longest = back_off.max_interval.map(|longest| millis(longest.as_millis().max(base)));
        Some(BackoffStrategy { base_interval: Some(millis(base)), max_interval: longest })
    });
    RetryPolicy {
        retry_on: triggers.collect::<Vec<_>>().join(","),
        num_retries: retry.num_retries.and_then(uint32),
        retry_back_off: back_off,
        ..Default::default()
    }
}
