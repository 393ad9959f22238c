//! Settings without effect: how hosts are dealt with that a policy itself asks. They let nobody pass, so the policy stands.

use super::provider_settings;
use controller_api::{cluster_settings::ClusterSettings, security_policy::SecurityPolicySpec};

/// Their paths below `spec`.
pub(super) fn fields(spec: &SecurityPolicySpec) -> Vec<String> {
    let mut fields = Vec::new();
    if let Some(auth) = &spec.ext_auth {
        let grpc = auth.grpc.as_ref().and_then(|grpc| grpc.backend_settings.as_deref());
        add("extAuth.grpc", grpc, &mut fields);
        let http = auth.http.as_ref().and_then(|http| http.backend_settings.as_deref());
        add("extAuth.http", http, &mut fields);
    }
    for (index, provider) in spec.jwt.iter().flat_map(|jwt| &jwt.providers).enumerate() {
        let settings = provider.remote_jwks.as_ref().and_then(|remote| remote.backend_settings.as_deref());
        add(&format!("jwt.providers[{index}].remoteJWKS"), settings, &mut fields);
    }
    if let Some(settings) = spec.oidc.as_ref().and_then(|oidc| oidc.provider.backend_settings.as_deref()) {
        let ignored = provider_settings::ignored(settings).into_iter();
        fields.extend(ignored.map(|field| format!("oidc.provider.backendSettings.{field}")));
    }
    fields
}

fn add(owner: &str, settings: Option<&ClusterSettings>, fields: &mut Vec<String>) {
    let unsupported = settings.into_iter().flat_map(|settings| settings.unsupported.keys());
    fields.extend(unsupported.map(|field| format!("{owner}.backendSettings.{field}")));
}
