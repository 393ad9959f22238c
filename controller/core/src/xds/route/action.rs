//! What happens to the requests that a route takes.

use envoy_types::pb::{
    envoy::{
        config::{
            core::v3::{
                DataSource, RuntimeFractionalPercent, SubstitutionFormatString, data_source, substitution_format_string,
            },
            route::v3::{
                DirectResponseAction, RedirectAction, RouteAction, WeightedCluster,
                redirect_action::{PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier},
                route::Action as EnvoyAction,
                route_action::{
                    ClusterNotFoundResponseCode, ClusterSpecifier, HostRewriteSpecifier, RequestMirrorPolicy,
                    UpgradeConfig,
                },
                weighted_cluster::ClusterWeight,
            },
        },
        r#type::v3::{FractionalPercent, fractional_percent::DenominatorType},
    },
    google::protobuf::BoolValue,
};

use super::{headers_to_add, retry, rewrite};
use crate::{
    ir::{Action, Backend, Destination, HostRewrite, HttpRoute, Mirror, PathMatch, Redirect},
    xds::{cluster::is_split, name, value::uint32},
};

pub(super) fn action(route: &HttpRoute) -> EnvoyAction {
    match &route.action {
        Action::Forward(destination) => EnvoyAction::Route(forward(route, destination)),
        Action::Redirect(to) => EnvoyAction::Redirect(redirect(to, route.matches.path.as_ref())),
        Action::Respond { status, body, format } => EnvoyAction::DirectResponse(respond(*status, body, *format)),
    }
}

fn respond(status: u16, body: &str, format: bool) -> DirectResponseAction {
    let text = (!body.is_empty()).then(|| DataSource {
        specifier: Some(data_source::Specifier::InlineBytes(body.as_bytes().to_vec())),
        ..Default::default()
    });
    let mut response = DirectResponseAction { status: u32::from(status), ..Default::default() };
    if format {
        response.body_format = text.map(|text| SubstitutionFormatString {
            format: Some(substitution_format_string::Format::TextFormatSource(text)),
            ..Default::default()
        });
    } else {
        response.body = text;
    }
    response
}

fn forward(route: &HttpRoute, destination: &Destination) -> RouteAction {
    let mut action =
        RouteAction { request_mirror_policies: route.mirrors.iter().map(mirror).collect(), ..Default::default() };
    if is_split(destination) {
        action.set_cluster_not_found_response_code(ClusterNotFoundResponseCode::InternalServerError);
        action.cluster_specifier = Some(ClusterSpecifier::WeightedClusters(weighted_clusters(destination)));
    } else {
        action.cluster_specifier = Some(ClusterSpecifier::Cluster(destination.name.clone()));
    }
    if route.route.kind != "GRPCRoute" {
        action.upgrade_configs = vec![UpgradeConfig { upgrade_type: "websocket".into(), ..Default::default() }];
    }
    if let Some(rewrite) = &route.rewrite {
        action.host_rewrite_specifier = rewrite.hostname.as_ref().map(host_rewrite);
        action.append_x_forwarded_host = rewrite.hostname.is_some() && rewrite.append_x_forwarded_host;
        match rewrite.path.as_ref().map(|path| rewrite::path(path, route.matches.path.as_ref())) {
            None => {}
            Some(rewrite::Path::Full(path)) => action.path_rewrite = path,
            Some(rewrite::Path::Prefix(prefix)) => action.prefix_rewrite = prefix,
            Some(rewrite::Path::Regex(regex)) => action.regex_rewrite = Some(regex),
        }
    }
    retry::apply(&mut action, route);
    action
}

fn host_rewrite(rewrite: &HostRewrite) -> HostRewriteSpecifier {
    match rewrite {
        HostRewrite::Literal(host) => HostRewriteSpecifier::HostRewriteLiteral(host.clone()),
        HostRewrite::Header(header) => HostRewriteSpecifier::HostRewriteHeader(header.clone()),
        HostRewrite::Backend => HostRewriteSpecifier::AutoHostRewrite(BoolValue { value: true }),
        HostRewrite::PathRegex { pattern, substitution } => {
            HostRewriteSpecifier::HostRewritePathRegex(rewrite::regex(pattern, substitution))
        }
    }
}

/// One cluster for each backend; the share of broken ones goes to a cluster that does not exist and answers 500.
fn weighted_clusters(destination: &Destination) -> WeightedCluster {
    let weight =
        |name: &str, weight| ClusterWeight { name: name.to_owned(), weight: uint32(weight), ..Default::default() };
    let (valid, invalid): (Vec<&Backend>, Vec<&Backend>) =
        destination.backends.iter().partition(|backend| backend.endpoints.is_some());
    let invalid: u32 = invalid.iter().fold(0, |sum, backend| sum.saturating_add(backend.weight));
    let invalid = (invalid > 0).then(|| weight(name::INVALID_BACKEND_CLUSTER, invalid));
    let valid = valid.into_iter().map(|backend| ClusterWeight {
        request_headers_to_add: headers_to_add(&backend.request_headers),
        request_headers_to_remove: backend.request_headers.remove.clone(),
        response_headers_to_add: headers_to_add(&backend.response_headers),
        response_headers_to_remove: backend.response_headers.remove.clone(),
        ..weight(&backend.name, backend.weight)
    });
    WeightedCluster { clusters: invalid.into_iter().chain(valid).collect(), ..Default::default() }
}

fn mirror(mirror: &Mirror) -> RequestMirrorPolicy {
    let (numerator, denominator) = mirror.fraction;
    let share = if numerator >= denominator {
        FractionalPercent { numerator: 100, denominator: DenominatorType::Hundred.into() }
    } else {
        let millionths = u64::from(numerator) * 1_000_000 / u64::from(denominator.max(1));
        FractionalPercent {
            numerator: u32::try_from(millionths).unwrap_or(u32::MAX),
            denominator: DenominatorType::Million.into(),
        }
    };
    RequestMirrorPolicy {
        cluster: mirror.destination.name.clone(),
        runtime_fraction: Some(RuntimeFractionalPercent { default_value: Some(share), ..Default::default() }),
        disable_shadow_host_suffix_append: true,
        ..Default::default()
    }
}

fn redirect(redirect: &Redirect, path: Option<&PathMatch>) -> RedirectAction {
    let response_code = match redirect.status {
        302 => RedirectResponseCode::Found,
        303 => RedirectResponseCode::SeeOther,
        307 => RedirectResponseCode::TemporaryRedirect,
        308 => RedirectResponseCode::PermanentRedirect,
        _ => RedirectResponseCode::MovedPermanently,
    };
    let path = redirect.path.as_ref().map(|to| match rewrite::path(to, path) {
        rewrite::Path::Full(path) => PathRewriteSpecifier::PathRedirect(path),
        rewrite::Path::Prefix(prefix) => PathRewriteSpecifier::PrefixRewrite(prefix),
        rewrite::Path::Regex(regex) => PathRewriteSpecifier::RegexRewrite(regex),
    });
    RedirectAction {
        scheme_rewrite_specifier: redirect.scheme.clone().map(SchemeRewriteSpecifier::SchemeRedirect),
        host_redirect: redirect.hostname.clone().unwrap_or_default(),
        port_redirect: redirect.port.map_or(0, u32::from),
        path_rewrite_specifier: path,
        response_code: response_code.into(),
        ..Default::default()
    }
}
