//! What a server lets its clients do.

use std::time::Duration;

/// What one HTTP/2 connection may ask of us, and how long it may last.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Requests in flight at a time.
    pub max_concurrent_streams: u32,
    /// Requests that the client has reset before we have looked at them. Every client time-out while we are stalled adds one, and one too
    /// many closes the connection with all its innocent requests, so this is well above `max_concurrent_streams`.
    pub max_pending_accept_reset_streams: usize,
    /// Bytes of a request's headers, each with 32 bytes on top (RFC 9113, section 6.5.2).
    pub max_header_list_size: u32,
    /// Pause after which a silent client is pinged; it is cut off when it does not answer within 20 seconds.
    pub keepalive: Duration,
    /// Time for the TLS handshake, and again for the client's HTTP/2 preface and settings.
    pub handshake: Duration,
    /// A connection without a request for so long, up to a fifth more, is closed in good order.
    pub idle: Duration,
    /// A connection as old as this, give or take a tenth, is closed in good order, so that clients spread over new replicas.
    pub age: Option<Duration>,
    /// What runs so long after its connection was to close is cut off.
    pub age_grace: Option<Duration>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_concurrent_streams: 1024,
            max_pending_accept_reset_streams: 8192,
            max_header_list_size: 16 * 1024,
            keepalive: Duration::from_mins(1),
            handshake: Duration::from_secs(5),
            idle: Duration::from_mins(5),
            age: Some(Duration::from_hours(24)),
            age_grace: Some(Duration::from_hours(1)),
        }
    }
}
