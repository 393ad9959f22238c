//! Datagrams that are handed on as they are.

use std::collections::BTreeMap;

use envoy_types::pb::{
    envoy::{
        config::{
            core::v3::{Address, SocketAddress, address, socket_address},
            listener::v3::{Listener, ListenerFilter, UdpListenerConfig, listener_filter::ConfigType},
        },
        extensions::filters::udp::udp_proxy::v3::{
            Route as ProxyRoute, UdpProxyConfig, udp_proxy_config::RouteSpecifier,
        },
    },
    xds::{
        core::v3::TypedExtensionConfig,
        r#type::matcher::v3::{
            Matcher,
            matcher::{OnMatch, on_match},
        },
    },
};

use super::{Resources, access_log, cluster, metadata, value::any};
use crate::{
    Settings,
    ir::{Proxy, UdpListener, UdpRoute},
};

/// The Envoy listener for `listener` and the cluster that it refers to, unless nobody wants its datagrams.
pub(crate) fn resources(proxy: &Proxy, listener: &UdpListener, settings: &Settings, resources: &mut Resources) {
    let Some(route) = &listener.route else { return };
    let metadata = metadata::of(&route.route, None, &BTreeMap::new());
    let certificate = proxy.client_certificate(&listener.gateway);
    let options = cluster::Options { metadata: Some(&metadata), certificate, raw: true, ..Default::default() };
    cluster::add_whole(resources, &route.destination, options);
    resources.add(&envoy_listener(listener, route, settings));
}

fn envoy_listener(listener: &UdpListener, route: &UdpRoute, settings: &Settings) -> Listener {
    let address = SocketAddress {
        protocol: socket_address::Protocol::Udp.into(),
        address: listener.address.to_string(),
        port_specifier: Some(socket_address::PortSpecifier::PortValue(listener.port.into())),
        ..Default::default()
    };
    Listener {
        name: listener.name.clone(),
        address: Some(Address { address: Some(address::Address::SocketAddress(address)) }),
        udp_listener_config: Some(UdpListenerConfig::default()),
        listener_filters: vec![ListenerFilter {
            name: "envoy.filters.udp_listener.udp_proxy".into(),
            config_type: Some(ConfigType::TypedConfig(any(&proxy(route, settings)))),
            ..Default::default()
        }],
        access_log: settings.access_log.as_deref().map(access_log::unrouted_connections).into_iter().collect(),
        ..Default::default()
    }
}

fn proxy(route: &UdpRoute, settings: &Settings) -> UdpProxyConfig {
    let action = ProxyRoute { cluster: route.destination.name.clone() };
    let action = TypedExtensionConfig { name: "route".to_owned(), typed_config: Some(any(&action)) };
    let on_match = OnMatch { on_match: Some(on_match::OnMatch::Action(action)), ..Default::default() };
    UdpProxyConfig {
        stat_prefix: "service".to_owned(),
        access_log: settings.access_log.as_deref().map(access_log::requests).into_iter().collect(),
        route_specifier: Some(RouteSpecifier::Matcher(Matcher {
            on_no_match: Some(Box::new(on_match)),
            ..Default::default()
        })),
        ..Default::default()
    }
}
