//! What the protocol of a listener means for the rest of its spec.

use gateway_api::apis::experimental::gateways::{GatewayListeners as Spec, GatewayListenersTlsMode as Mode};

/// A protocol that listeners can speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::translate) enum Protocol {
    /// HTTP in clear text
    Http,
    /// HTTP over TLS that ends here
    Https,
    /// TLS that is handed on by its server name
    TlsPassthrough,
    /// TLS that ends here, with any bytes inside
    TlsTerminate,
    /// Any bytes
    Tcp,
    /// Datagrams
    Udp,
}

/// What is wrong with a listener's protocol or with what goes with it: condition, reason and message.
pub(super) type Refusal = (&'static str, &'static str, String);

impl Protocol {
    /// The protocol of a listener; without one it can take no routes.
    pub(super) fn of(spec: &Spec) -> Result<Self, Refusal> {
        let passthrough = spec.tls.as_ref().is_some_and(|tls| tls.mode == Some(Mode::Passthrough));
        match spec.protocol.as_str() {
            "HTTP" => Ok(Self::Http),
            "HTTPS" => Ok(Self::Https),
            "TLS" if passthrough => Ok(Self::TlsPassthrough),
            "TLS" => Ok(Self::TlsTerminate),
            "TCP" => Ok(Self::Tcp),
            "UDP" => Ok(Self::Udp),
            other => {
                let message = format!("Protocol {other} is unsupported, must be HTTP, HTTPS, TLS, TCP or UDP.");
                Err(("Accepted", "UnsupportedProtocol", message))
            }
        }
    }

    /// As in the spec.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Http => "HTTP",
            Self::Https => "HTTPS",
            Self::TlsPassthrough | Self::TlsTerminate => "TLS",
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        }
    }

    /// The kinds of routes that can attach.
    pub(super) fn kinds(self) -> &'static [&'static str] {
        match self {
            Self::Http | Self::Https => &["HTTPRoute", "GRPCRoute"],
            Self::TlsPassthrough => &["TLSRoute"],
            Self::TlsTerminate => &["TCPRoute", "TLSRoute"],
            Self::Tcp => &["TCPRoute"],
            Self::Udp => &["UDPRoute"],
        }
    }

    /// Listeners that share a port must have this in common.
    pub(super) fn transport(self) -> &'static str {
        match self {
            Self::Http => "HTTP",
            Self::Https | Self::TlsPassthrough | Self::TlsTerminate => "TLS",
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        }
    }

    /// Connections are told apart by a name, so that several listeners may share a port.
    pub(super) fn has_hostnames(self) -> bool {
        !matches!(self, Self::Tcp | Self::Udp)
    }

    /// Envoy needs certificates for it.
    pub(super) fn terminates_tls(self) -> bool {
        matches!(self, Self::Https | Self::TlsTerminate)
    }

    /// What in the spec does not go with the protocol.
    pub(super) fn validate(self, spec: &Spec) -> Result<(), Refusal> {
        let refuse = |reason, message| Err(("Programmed", reason, message));
        let name = self.name();
        let Some(tls) = &spec.tls else {
            return match self {
                Self::Https | Self::TlsTerminate | Self::TlsPassthrough => {
                    refuse("Invalid", format!("Listener must have TLS set when protocol is {name}."))
                }
                Self::Http | Self::Tcp | Self::Udp => self.validate_hostname(spec),
            };
        };
        match self {
            Self::Http | Self::Tcp | Self::Udp => {
                refuse("Invalid", format!("Listener must not have TLS set when protocol is {name}."))
            }
            Self::Https if tls.mode == Some(Mode::Passthrough) => {
                let message = "TLS Passthrough mode is not supported, TLS mode must be Terminate.";
                refuse("UnsupportedTLSMode", message.to_owned())
            }
            Self::Https | Self::TlsTerminate if tls.certificate_refs.as_ref().is_none_or(Vec::is_empty) => {
                refuse("Invalid", "Listener must have at least 1 TLS certificate ref".to_owned())
            }
            Self::TlsPassthrough if tls.certificate_refs.as_ref().is_some_and(|refs| !refs.is_empty()) => {
                let message = "Listener must not have TLS certificate refs set for TLS mode Passthrough.";
                refuse("Invalid", message.to_owned())
            }
            Self::Https | Self::TlsTerminate | Self::TlsPassthrough => Ok(()),
        }
    }

    fn validate_hostname(self, spec: &Spec) -> Result<(), Refusal> {
        if !self.has_hostnames() && spec.hostname.as_ref().is_some_and(|hostname| !hostname.is_empty()) {
            let message = format!("Listener must not have hostname set when protocol is {}.", self.name());
            return Err(("Programmed", "Invalid", message));
        }
        Ok(())
    }
}
