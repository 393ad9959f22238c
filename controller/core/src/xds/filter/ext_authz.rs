//! External authorization: by `extauth` for the methods it serves, by the service of a policy's own `extAuth`, and by that
//! of a rule's `ExternalAuth` filter.
//!
//! Every instance is off unless a route says otherwise, and what cannot be asked denies unless the policy fails open.

use std::collections::{BTreeMap, HashMap};

use controller_api::{
    Duration,
    cluster_settings::ClusterSettings,
    security_policy::ext_auth::{ExtAuth as Spec, HttpExtAuthService},
};
use envoy_types::pb::{
    envoy::{
        config::core::v3::{
            ApiVersion, GrpcService, HttpUri, RetryPolicy,
            grpc_service::{EnvoyGrpc, TargetSpecifier},
            http_uri::HttpUpstreamType,
        },
        extensions::filters::{
            http::ext_authz::v3::{
                AuthorizationResponse, BufferSettings, CheckSettings, ExtAuthz as Config, ExtAuthzPerRoute,
                HttpService, ext_authz::Services, ext_authz_per_route::Override,
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

use super::{Filter, disabled, retry::retry_policy};
use crate::{
    ir::{ExtAuth, HttpRoute, ObjectRef, PathMatch},
    xds::{
        Resources, cluster,
        listener::Port,
        matcher::exact,
        metadata, name, service,
        value::{any, millis},
    },
};

const NAME: &str = "envoy.filters.http.ext_authz";
/// The key under which `extauth` reads which of its policies to apply.
const POLICY: &str = "policy";
const TIMEOUT_MS: u64 = 10_000;
/// `extauth` may have to ask an identity provider before it can answer.
const EXTAUTH_TIMEOUT_MS: u64 = 5_000;
/// A logout token is a JWT with few claims; a larger body is answered with 413.
const LARGEST_LOGOUT_BYTES: u32 = 64 << 10;

pub(super) struct ExtAuthz;

impl Filter for ExtAuthz {
    fn chain(&self, port: &Port<'_>) -> Vec<HttpFilter> {
        let served = (0..served(port)).map(|index| disabled(&extauth_instance(index), &extauth()));
        let own = own(port).into_iter().map(|(name, own)| disabled(&name, &config(own)));
        served.chain(own).collect()
    }

    fn route(&self, _listener: &str, route: &HttpRoute) -> Vec<(String, Any)> {
        let with_request_body = posts_logouts(route)
            .then(|| BufferSettings { max_request_bytes: LARGEST_LOGOUT_BYTES, ..Default::default() });
        let served = auth_policies(route).iter().enumerate().map(|(index, policy)| {
            let context_extensions = HashMap::from([(POLICY.to_owned(), policy.clone())]);
            let settings = CheckSettings { context_extensions, with_request_body, ..Default::default() };
            (extauth_instance(index), check(settings))
        });
        let own = services(route).map(|own| {
            let context_extensions = own.backend.context_extensions.clone().into_iter().collect();
            (instance(own.backend), check(CheckSettings { context_extensions, ..Default::default() }))
        });
        served.chain(own).collect()
    }

    fn resources(&self, port: &Port<'_>, resources: &mut Resources) {
        if let Some(address) = port.settings.extauth.as_ref().filter(|_| served(port) > 0) {
            service::add(resources, name::EXTAUTH_CLUSTER, address, port.settings);
        }
        for own in own(port).into_values() {
            let metadata = metadata::of(own.owner, None, &BTreeMap::new());
            let settings = own.spec.and_then(spec_settings).cloned().unwrap_or_default();
            let certificate = port.client_certificate();
            let options = cluster::Options { metadata: Some(&metadata), certificate, ..Default::default() };
            cluster::add_for_policy(resources, &own.backend.destination, options, &settings);
        }
    }
}

/// How many questions `extauth` is asked at most about one request.
fn served(port: &Port<'_>) -> usize {
    port.routes().map(|route| auth_policies(route).len()).max().unwrap_or_default()
}

fn auth_policies(route: &HttpRoute) -> &[String] {
    route.security.as_ref().map_or(&[], |security| &security.auth_policies)
}

/// One instance for each of the policies that a request has to satisfy.
fn extauth_instance(index: usize) -> String {
    if index == 0 { NAME.to_owned() } else { format!("{NAME}/extauth/{index}") }
}

/// A service of a policy's or filter's own.
#[derive(Clone, Copy)]
struct Own<'a> {
    owner: &'a ObjectRef,
    spec: Option<&'a Spec>,
    backend: &'a ExtAuth,
}

/// Those that are asked about the requests of a route.
fn services(route: &HttpRoute) -> impl Iterator<Item = Own<'_>> {
    let policy = route.security.as_deref().and_then(|security| {
        let spec = security.spec.ext_auth.as_deref();
        Some(Own { owner: &security.policy, spec, backend: security.ext_auth.as_ref()? })
    });
    let filter = route.filters.external_auth.as_ref();
    let filter = filter.map(|auth| Own { owner: &auth.route, spec: Some(&auth.spec), backend: &auth.backend });
    policy.into_iter().chain(filter)
}

/// The instances for them, by name.
fn own<'a>(port: &Port<'a>) -> BTreeMap<String, Own<'a>> {
    port.routes().flat_map(services).map(|own| (instance(own.backend), own)).collect()
}

/// Named after the policy or rule that the backend belongs to, so that those who inherit it share the instance.
fn instance(ext_auth: &ExtAuth) -> String {
    let cluster = &ext_auth.destination.name;
    let owner = cluster.rsplit_once("/extauth/").map_or(cluster.as_str(), |(owner, _)| owner);
    format!("{NAME}/{owner}")
}

/// Whether it is where a provider posts logout tokens, see [`crate::xds::route`].
fn posts_logouts(route: &HttpRoute) -> bool {
    let path = route.security.as_ref().and_then(|security| security.back_channel_logout.as_ref());
    path.is_some_and(|path| matches!(&route.matches.path, Some(PathMatch::Exact(exact)) if exact == path))
}

fn check(settings: CheckSettings) -> Any {
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

fn config(own: Own<'_>) -> Config {
    let spec = own.spec.cloned().unwrap_or_default();
    let route_metadata = spec.include_route_metadata.unwrap_or(false).then(|| name::METADATA.to_owned());
    Config {
        transport_api_version: ApiVersion::V3.into(),
        services: Some(service(&spec, own.backend)),
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

fn service(spec: &Spec, ext_auth: &ExtAuth) -> Services {
    let timeout = spec.timeout.map_or(TIMEOUT_MS, Duration::as_millis);
    let retry = spec_settings(spec).and_then(|settings| settings.retry.as_ref()).map(retry_policy);
    match &spec.http {
        Some(http) => Services::HttpService(http_service(http, ext_auth, timeout, retry)),
        None => Services::GrpcService(grpc(&ext_auth.destination.name, &ext_auth.authority, timeout, retry)),
    }
}

/// The path of `server_uri` is for people: what is asked for is the request's path after the prefix, or the override.
fn http_service(
    http: &HttpExtAuthService,
    ext_auth: &ExtAuth,
    timeout: u64,
    retry: Option<RetryPolicy>,
) -> HttpService {
    let (prefix, path) = (http.path.clone().unwrap_or_default(), http.path_override.clone().unwrap_or_default());
    let shown = if path.is_empty() { &prefix } else { &path };
    HttpService {
        server_uri: Some(HttpUri {
            uri: format!("http://{}{shown}", ext_auth.authority),
            timeout: Some(millis(timeout)),
            http_upstream_type: Some(HttpUpstreamType::Cluster(ext_auth.destination.name.clone())),
        }),
        path_prefix: if path.is_empty() { prefix } else { String::new() },
        path_override: path,
        authorization_response: (!http.headers_to_backend.is_empty()).then(|| AuthorizationResponse {
            allowed_upstream_headers: Some(allowed(&http.headers_to_backend)),
            ..Default::default()
        }),
        retry_policy: retry,
        ..Default::default()
    }
}

/// Envoy knows only the statuses of its own list and refuses the others; 403 stands for them.
fn status_on_error(status: u16) -> Option<HttpStatus> {
    let code = StatusCode::try_from(i32::from(status)).ok()?;
    Some(HttpStatus { code: code.into() })
}

fn spec_settings(spec: &Spec) -> Option<&ClusterSettings> {
    let grpc = spec.grpc.as_ref().and_then(|grpc| grpc.backend_settings.as_deref());
    grpc.or_else(|| spec.http.as_ref()?.backend_settings.as_deref())
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
