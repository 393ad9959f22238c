//! Listeners below HTTP: TCP, TLS by server name, UDP.

use std::net::IpAddr;

use super::{Destination, ObjectRef, Tls};

/// One TCP or TLS listener with the routes attached to it.
#[derive(Clone, Debug, PartialEq)]
pub struct TcpListener {
    /// As [`super::HttpListener::name`].
    pub name: String,
    /// The Gateway that it belongs to.
    pub gateway: ObjectRef,
    /// The Gateway or ListenerSet that has it in its spec.
    pub parent: ObjectRef,
    /// The listener's name there.
    pub section: String,
    /// Address that Envoy binds.
    pub address: IpAddr,
    /// Port that Envoy binds.
    pub port: u16,
    /// Port as written in the spec.
    pub gateway_port: u16,
    /// Server name that it takes; `*` for every connection, with or without TLS.
    pub hostname: String,
    /// `None` for a TCP listener.
    pub tls: Option<Tls>,
    /// Oldest first. A connection takes the first one whose names fit it best.
    pub routes: Vec<TcpRoute>,
}

/// One rule of a TLSRoute or TCPRoute on one listener.
#[derive(Clone, Debug, PartialEq)]
pub struct TcpRoute {
    /// `tlsroute/<ns>/<name>` or `tcproute/<ns>/<name>`.
    pub name: String,
    /// The route object it comes from.
    pub route: ObjectRef,
    /// Server names that it takes; empty for every connection.
    pub sni: Vec<String>,
    /// Where connections go. Without any working backend they are closed.
    pub destination: Destination,
}

/// One UDP listener.
#[derive(Clone, Debug, PartialEq)]
pub struct UdpListener {
    /// As [`super::HttpListener::name`].
    pub name: String,
    /// The Gateway that it belongs to.
    pub gateway: ObjectRef,
    /// The Gateway or ListenerSet that has it in its spec.
    pub parent: ObjectRef,
    /// The listener's name there.
    pub section: String,
    /// Address that Envoy binds.
    pub address: IpAddr,
    /// Port that Envoy binds.
    pub port: u16,
    /// Port as written in the spec.
    pub gateway_port: u16,
    /// The oldest one that is attached.
    pub route: Option<UdpRoute>,
}

/// A UDPRoute.
#[derive(Clone, Debug, PartialEq)]
pub struct UdpRoute {
    /// `udproute/<ns>/<name>`.
    pub name: String,
    /// The route object it comes from.
    pub route: ObjectRef,
    /// Where datagrams go.
    pub destination: Destination,
}
