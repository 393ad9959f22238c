//! What is spoken on a port.

/// gRPC, or HTTP for everybody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    /// HTTP/2 only.
    Grpc,
    /// HTTP/1.1, and HTTP/2 for those who begin with it.
    Http,
}

impl Protocol {
    /// Metric of the connections that were cut off.
    pub(super) fn cut(self) -> &'static str {
        match self {
            Self::Grpc => "grpc_connections_cut_total",
            Self::Http => "http_connections_cut_total",
        }
    }

    /// Metric of the connections that were not taken.
    pub(super) fn refused(self) -> &'static str {
        match self {
            Self::Grpc => "grpc_connections_refused_total",
            Self::Http => "http_connections_refused_total",
        }
    }

    /// Metric of the handlers that panicked.
    pub(super) fn panicked(self) -> &'static str {
        match self {
            Self::Grpc => "grpc_handler_panics_total",
            Self::Http => "http_handler_panics_total",
        }
    }
}
