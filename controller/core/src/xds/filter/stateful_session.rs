//! Sessions that stay with one endpoint.

use envoy_types::pb::{
    envoy::{
        config::core::v3::TypedExtensionConfig,
        extensions::{
            filters::{
                http::stateful_session::v3::{
                    StatefulSession as Config, StatefulSessionPerRoute, stateful_session_per_route::Override,
                },
                network::http_connection_manager::v3::HttpFilter,
            },
            http::stateful_session::{cookie::v3::CookieBasedSessionState, header::v3::HeaderBasedSessionState},
        },
        r#type::http::v3::Cookie,
    },
    google::protobuf::Any,
};

use super::{Filter, disabled};
use crate::{
    ir::{HttpRoute, PathMatch, Session},
    xds::{
        listener::Port,
        value::{any, extension, millis},
    },
};

const NAME: &str = "envoy.filters.http.stateful_session";

pub(super) struct StatefulSession;

impl Filter for StatefulSession {
    fn chain(&self, port: &Port<'_>) -> Vec<HttpFilter> {
        // Every route with sessions brings its own configuration; the chain's own is never in use.
        port.routes().find_map(config).map(|config| disabled(NAME, &config)).into_iter().collect()
    }

    fn route(&self, _listener: &str, route: &HttpRoute) -> Vec<(String, Any)> {
        let per_route = |config| StatefulSessionPerRoute { r#override: Some(Override::StatefulSession(config)) };
        config(route).map(|config| (NAME.to_owned(), any(&per_route(config)))).into_iter().collect()
    }
}

fn config(route: &HttpRoute) -> Option<Config> {
    let session = route.filters.session.as_ref()?;
    Some(Config { session_state: Some(state(session, route.matches.path.as_ref())), ..Default::default() })
}

fn state(session: &Session, path: Option<&PathMatch>) -> TypedExtensionConfig {
    match session {
        Session::Cookie { name, ttl_ms } => {
            let cookie =
                Cookie { name: name.clone(), ttl: ttl_ms.map(millis), path: cookie_path(path), ..Default::default() };
            let state = CookieBasedSessionState { cookie: Some(cookie) };
            extension("envoy.http.stateful_session.cookie", &state)
        }
        Session::Header { name } => {
            extension("envoy.http.stateful_session.header", &HeaderBasedSessionState { name: name.clone() })
        }
    }
}

/// The part of the site that the browser sends the cookie to: at least all that the route matches.
fn cookie_path(path: Option<&PathMatch>) -> String {
    match path {
        Some(PathMatch::Exact(path) | PathMatch::Prefix(path)) => path.clone(),
        None | Some(PathMatch::Suffix(_) | PathMatch::RegularExpression(_)) => "/".to_owned(),
    }
}
