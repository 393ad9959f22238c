//! Short ways to write protobuf's well-known types and Envoy's smallest messages.

use envoy_types::pb::{
    envoy::config::core::v3::{
        Address, AggregatedConfigSource, ApiVersion, ConfigSource, Pipe, SocketAddress, TypedExtensionConfig, address,
        config_source::ConfigSourceSpecifier, socket_address::PortSpecifier,
    },
    google::protobuf::{Any, BoolValue, Duration, UInt32Value},
};
use prost::Name;

/// Packs a message.
pub(crate) fn any<M: Name>(message: &M) -> Any {
    Any { type_url: M::type_url(), value: message.encode_to_vec() }
}

/// An extension with its configuration.
pub(crate) fn extension<M: Name>(name: &str, config: &M) -> TypedExtensionConfig {
    TypedExtensionConfig { name: name.to_owned(), typed_config: Some(any(config)) }
}

/// A number that is set.
#[expect(clippy::unnecessary_wraps, reason = "every field of this type is optional")]
pub(crate) fn uint32(value: u32) -> Option<UInt32Value> {
    Some(UInt32Value { value })
}

/// A flag that is set.
#[expect(clippy::unnecessary_wraps, reason = "every field of this type is optional")]
pub(crate) fn boolean(value: bool) -> Option<BoolValue> {
    Some(BoolValue { value })
}

/// A duration in milliseconds.
pub(crate) fn millis(millis: u64) -> Duration {
    let seconds = i64::try_from(millis / 1000).unwrap_or(i64::MAX);
    let nanos = i32::try_from(millis % 1000 * 1_000_000).unwrap_or(0);
    Duration { seconds, nanos }
}

/// A duration of a policy.
pub(crate) fn duration(duration: controller_api::Duration) -> Duration {
    millis(duration.as_millis())
}

/// Whatever is fetched over the stream that it was named on.
pub(crate) fn ads() -> ConfigSource {
    ConfigSource {
        config_source_specifier: Some(ConfigSourceSpecifier::Ads(AggregatedConfigSource::default())),
        resource_api_version: ApiVersion::V3.into(),
        ..Default::default()
    }
}

/// The same without a deadline for the first answer.
pub(crate) fn ads_without_deadline() -> ConfigSource {
    ConfigSource { initial_fetch_timeout: Some(Duration::default()), ..ads() }
}

/// A TCP address; `host` is an IP address or, where Envoy resolves it, a name.
pub(crate) fn socket_address(host: &str, port: u16) -> Address {
    Address {
        address: Some(address::Address::SocketAddress(SocketAddress {
            address: host.to_owned(),
            port_specifier: Some(PortSpecifier::PortValue(port.into())),
            ..Default::default()
        })),
    }
}

/// A unix socket's address.
pub(crate) fn pipe(path: &str) -> Address {
    Address { address: Some(address::Address::Pipe(Pipe { path: path.to_owned(), mode: 0 })) }
}
