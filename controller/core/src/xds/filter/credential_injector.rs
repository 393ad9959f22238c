//! Credentials of the Gateway's own for backends.

use std::collections::BTreeMap;

use envoy_types::pb::{
    envoy::{
        config::{
            core::v3::{DataSource, data_source},
            route::v3::FilterConfig,
        },
        extensions::{
            filters::{
                http::credential_injector::v3::CredentialInjector as Config,
                network::http_connection_manager::v3::HttpFilter,
            },
            http::injected_credentials::generic::v3::Generic,
            transport_sockets::tls::v3::{GenericSecret, SdsSecretConfig, Secret, secret},
        },
    },
    google::protobuf::Any,
};

use super::{Filter, disabled};
use crate::{
    ir::{Credential, HttpRoute},
    xds::{
        Resources,
        listener::Port,
        name,
        value::{ads_without_deadline, any, extension},
    },
};

const NAME: &str = "envoy.filters.http.credential_injector";

pub(super) struct CredentialInjector;

impl Filter for CredentialInjector {
    fn chain(&self, port: &Port<'_>) -> Vec<HttpFilter> {
        credentials(port).into_iter().map(|(name, credential)| disabled(&name, &config(credential))).collect()
    }

    fn route(&self, _listener: &str, route: &HttpRoute) -> Vec<(String, Any)> {
        let on = FilterConfig { config: Some(Any::default()), ..Default::default() };
        route.filters.credential.iter().map(|credential| (instance(credential), any(&on))).collect()
    }

    fn resources(&self, port: &Port<'_>, resources: &mut Resources) {
        for credential in credentials(port).into_values() {
            let specifier = Some(data_source::Specifier::InlineBytes(credential.value.clone()));
            let value = DataSource { specifier, ..Default::default() };
            let secret = GenericSecret { secret: Some(value), ..Default::default() };
            resources.add(&Secret { name: secret_name(credential), r#type: Some(secret::Type::GenericSecret(secret)) });
        }
    }
}

fn credentials<'a>(port: &Port<'a>) -> BTreeMap<String, &'a Credential> {
    let used = port.routes().filter_map(|route| route.filters.credential.as_deref());
    used.map(|credential| (instance(credential), credential)).collect()
}

fn instance(credential: &Credential) -> String {
    format!("{NAME}/{}", name::policy(&credential.owner))
}

fn secret_name(credential: &Credential) -> String {
    format!("credential_injector/credential/{}", name::policy(&credential.owner))
}

fn config(credential: &Credential) -> Config {
    let secret = SdsSecretConfig { name: secret_name(credential), sds_config: Some(ads_without_deadline()) };
    let generic = Generic {
        credential: Some(secret),
        header: credential.header.clone().unwrap_or_default(),
        ..Default::default()
    };
    Config {
        overwrite: credential.overwrite,
        credential: Some(extension("envoy.http.injected_credentials.generic", &generic)),
        ..Default::default()
    }
}
