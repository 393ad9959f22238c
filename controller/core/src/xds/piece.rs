//! What Envoy is told of one route, which depends on nothing but that route.
//!
//! Most changes leave most routes as they were, so their pieces are kept from one translation to the next.

use std::{collections::HashMap, sync::Arc};

use envoy_types::pb::envoy::config::{listener::v3::Listener, route::v3::Route};
use prost::{Message, Name};
use sha2::{Digest, Sha256};

use super::{
    Resource, Resources, canonical, cluster,
    filter::jwt_authn,
    metadata, rate_limit,
    resources::{self, frame},
    route,
};
use crate::ir::{Action, Certificate, HttpListener, HttpRoute, Proxy};

/// Number of the field `routes` of a `VirtualHost`.
const ROUTES: u32 = 3;

/// A route in Envoy's messages.
#[derive(Debug)]
pub(crate) struct Piece {
    /// Its part of a virtual host, encoded.
    pub(super) routes: Box<[u8]>,
    pub(super) digest: [u8; 32],
    /// Its clusters with their endpoints.
    pub(super) resources: Box<[(resources::Type, resources::Entry)]>,
    /// Its part of the filter that verifies tokens.
    pub(super) tokens: Option<jwt_authn::Part>,
    /// What `ratelimit` counts of its requests.
    pub(super) limits: Box<[rate_limit::Root]>,
}

impl Piece {
    /// `listener` is the name of the route's listener, `certificate` what backends are shown.
    fn new(listener: &str, certificate: Option<&Certificate>, route: &HttpRoute) -> Self {
        let mut routes = Vec::new();
        let logout = route::logout(route);
        for route in logout.iter().chain([route]) {
            let mut encoded = route::envoy_route(listener, route).encode_to_vec();
            canonical::sort(&Route::full_name(), &mut encoded);
            frame(ROUTES, &encoded, &mut routes);
        }
        let mut resources = Resources::default();
        add_backends(&mut resources, certificate, route);
        let digest = Sha256::digest(&routes).into();
        let limits = rate_limit::roots(listener, route);
        let (tokens, resources) = (jwt_authn::Part::of(route), resources.into_entries());
        Self { routes: routes.into(), digest, resources, tokens, limits: limits.into() }
    }
}

fn add_backends(resources: &mut Resources, certificate: Option<&Certificate>, route: &HttpRoute) {
    let Action::Forward(destination) = &route.action else { return };
    let metadata = metadata::of(&route.route, route.rule_name.as_deref(), &route.metadata);
    let options = cluster::Options { traffic: route.traffic.as_deref(), certificate, ..Default::default() };
    cluster::add(resources, destination, cluster::Options { metadata: Some(&metadata), ..options });
    for mirror in &route.mirrors {
        cluster::add(resources, &mirror.destination, options);
    }
}

/// What was built for a proxy the last time.
#[derive(Debug, Default)]
pub(crate) struct Known {
    proxy: Option<Arc<Proxy>>,
    /// By listener, in step with its routes.
    pieces: Vec<Vec<Arc<Piece>>>,
    /// What `ratelimit` counts is the same as the time before.
    same_limits: bool,
    /// By name, each with the version of its sketch.
    listeners: HashMap<String, (String, Arc<Resource>)>,
    /// Route configurations by name.
    configurations: HashMap<String, Arc<Resource>>,
}

impl Known {
    /// Those of `proxy`, whose routes' pieces are taken from `self` where they are as they were.
    pub(super) fn advance(mut self, proxy: &Arc<Proxy>) -> Self {
        let before = self.proxy.take().filter(|before| before.client_certificates == proxy.client_certificates);
        let old = |listener: &HttpListener| {
            let before = before.as_ref()?;
            let index = before.http.iter().position(|known| known.name == listener.name)?;
            Some((before.http.get(index)?.routes.as_slice(), self.pieces.get(index)?.as_slice()))
        };
        let pieces = proxy.http.iter().map(|listener| {
            let certificate = proxy.client_certificate(&listener.gateway);
            let (routes, pieces) = old(listener).unwrap_or_default();
            advance(listener, certificate, routes, pieces)
        });
        let pieces: Vec<_> = pieces.collect();
        self.same_limits = have_same_limits(&self.pieces, &pieces);
        self.pieces = pieces;
        self.proxy = Some(Arc::clone(proxy));
        self
    }

    /// The pieces of each listener.
    pub(super) fn pieces(&self) -> &[Vec<Arc<Piece>>] {
        &self.pieces
    }

    /// Whether `ratelimit` counts the same for it as the time before.
    pub(crate) fn has_same_limits(&self) -> bool {
        self.same_limits
    }

    /// The listeners by name, each with the version of its sketch. Two sketches differ where the listeners do, so `listeners` are
    /// not needed where no sketch is another.
    pub(super) fn listeners(
        &self,
        sketches: &[Listener],
        listeners: impl FnOnce() -> Vec<Listener>,
    ) -> HashMap<String, (String, Arc<Resource>)> {
        let sketches = sketches.iter().map(|sketch| (sketch.name.clone(), Resource::of(sketch).version));
        let sketches: HashMap<String, String> = sketches.collect();
        let is_known =
            |(name, sketch): (&String, &String)| self.listeners.get(name).is_some_and(|(known, _)| known == sketch);
        let all = if sketches.iter().all(is_known) { Vec::new() } else { listeners() };
        let new: HashMap<&str, &Listener> = all.iter().map(|listener| (listener.name.as_str(), listener)).collect();
        let one = |(name, sketch): (String, String)| {
            let resource = if is_known((&name, &sketch)) {
                Arc::clone(&self.listeners.get(&name)?.1)
            } else {
                Arc::new(Resource::of(*new.get(name.as_str())?))
            };
            Some((name, (sketch, resource)))
        };
        sketches.into_iter().filter_map(one).collect()
    }

    /// Adds `listeners`, and the route configurations, encoded again where they are not what they were.
    pub(super) fn keep(
        &mut self,
        resources: &mut Resources,
        listeners: HashMap<String, (String, Arc<Resource>)>,
        configurations: Vec<route::Configuration>,
    ) {
        for (name, (_, resource)) in &listeners {
            resources.insert(resources::Type::Listener, name, resource);
        }
        self.listeners = listeners;
        let mut known = std::mem::take(&mut self.configurations);
        for configuration in configurations {
            let same = known.remove(&configuration.name).filter(|known| known.version == configuration.version);
            let resource = same.unwrap_or_else(|| Arc::new(configuration.encode(&self.pieces)));
            resources.insert(resources::Type::RouteConfiguration, &configuration.name, &resource);
            self.configurations.insert(configuration.name, resource);
        }
    }
}

fn have_same_limits(before: &[Vec<Arc<Piece>>], after: &[Vec<Arc<Piece>>]) -> bool {
    let (mut before, mut after) = (before.iter().flatten(), after.iter().flatten());
    loop {
        match (before.next(), after.next()) {
            (None, None) => return true,
            (Some(before), Some(after)) if Arc::ptr_eq(before, after) || before.limits == after.limits => {}
            _ => return false,
        }
    }
}

/// The pieces of a listener's routes. Most stand where they stood, or are found by name.
fn advance(
    listener: &HttpListener,
    certificate: Option<&Certificate>,
    routes: &[HttpRoute],
    pieces: &[Arc<Piece>],
) -> Vec<Arc<Piece>> {
    let mut by_name: Option<HashMap<&str, usize>> = None;
    let piece = |(index, route): (usize, &HttpRoute)| {
        let stands = routes.get(index).is_some_and(|known| known.is(route) || known.name == route.name);
        let index = if stands {
            Some(index)
        } else {
            let by_name = by_name.get_or_insert_with(|| {
                routes.iter().enumerate().map(|(index, route)| (route.name.as_str(), index)).collect()
            });
            by_name.get(route.name.as_str()).copied()
        };
        let is_same = |known: &HttpRoute| known.is(route) || known == route;
        let same = index.filter(|index| routes.get(*index).is_some_and(is_same)).and_then(|index| pieces.get(index));
        same.map_or_else(|| Arc::new(Piece::new(&listener.name, certificate, route)), Arc::clone)
    };
    listener.routes.iter().enumerate().map(piece).collect()
}
