//! The files that tell Envoy where its certificate and its authorities are, so that both can rotate under it.

use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::{Value, json};

use super::{Error, Fleet, Object, object::finish};
use crate::Settings;

/// Key and file name of the secret that holds the authorities.
pub(super) const TRUSTED_CA: &str = "xds-trusted-ca.json";
/// Key and file name of the secret that holds the proxy's own certificate.
pub(super) const CERTIFICATE: &str = "xds-certificate.json";
/// Key and file name of the secret that holds the pod's token.
pub(super) const TOKEN: &str = "xds-service-account-token.json";
/// Key and file name of the authorities themselves, in fleets outside the controller's namespace.
pub(super) const AUTHORITIES: &str = "ca.crt";

/// What the containers mount as `/sds`.
pub(super) fn config_map(fleet: &Fleet, settings: &Settings) -> Result<Object, Error> {
    let trusted = secret(
        "xds_trusted_ca",
        "validation_context",
        &json!({
            "trusted_ca": {"filename": "/certs/ca.crt"},
            "match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"exact": "envoy-gateway"}}],
        }),
    );
    let certificate = secret(
        "xds_certificate",
        "tls_certificate",
        &json!({
            "certificate_chain": {"filename": "/certs/tls.crt"},
            "private_key": {"filename": "/certs/tls.key"},
        }),
    );
    let mut data = [(TRUSTED_CA.to_owned(), trusted), (CERTIFICATE.to_owned(), certificate)].to_vec();
    if settings.credentials().has_token() {
        let token = secret(
            "jwt-sa-bearer",
            "generic_secret",
            &json!({"secret": {"filename": "/var/run/secrets/token/sa-token"}}),
        );
        data.push((TOKEN.to_owned(), token));
    }
    if let Some(authorities) = &fleet.placement.authorities {
        data.push((AUTHORITIES.to_owned(), authorities.clone()));
    }
    let map =
        ConfigMap { metadata: fleet.metadata(None), data: Some(data.into_iter().collect()), ..Default::default() };
    finish(&map, None)
}

/// A `DiscoveryResponse` with one secret, as Envoy reads it from a file.
fn secret(name: &str, field: &str, content: &Value) -> String {
    let kind = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
    json!({"resources": [{"@type": kind, "name": name, field: content}]}).to_string()
}
