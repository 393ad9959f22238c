//! What an operator says of an installation in a cluster, to the controller itself and to whoever asks what it does.

use std::path::PathBuf;

use clap::Args;
use controller_core::{ServiceAddress, Settings, infra};
use kube::{
    Client, Config,
    config::{InferConfigError, KubeConfigOptions, Kubeconfig, KubeconfigError},
};

use crate::scope::Scope;

/// The API server to talk to.
#[derive(Clone, Debug, Default, Args)]
pub struct ApiServer {
    /// How to reach the API server [default: $KUBECONFIG, ~/.kube/config, or the pod's service account]
    #[arg(long, value_name = "PATH")]
    pub kubeconfig: Option<PathBuf>,
}

/// Why there is no way to the API server.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file does not say how to reach one.
    #[error("reading the kubeconfig")]
    Kubeconfig(#[from] KubeconfigError),
    /// Nothing says how to reach one.
    #[error("finding out how to reach the API server")]
    Infer(#[from] InferConfigError),
    /// No connection can be made from what is known.
    #[error("setting up the connection to the API server")]
    Client(#[from] kube::Error),
}

impl ApiServer {
    /// A client of it; nothing is sent yet.
    pub async fn client(&self) -> Result<Client, Error> {
        let config = match &self.kubeconfig {
            Some(path) => {
                Config::from_custom_kubeconfig(Kubeconfig::read_from(path)?, &KubeConfigOptions::default()).await?
            }
            None => Config::infer().await?,
        };
        Ok(Client::try_from(config)?)
    }
}

/// What decides which objects count and what they come to.
#[derive(Clone, Debug, Args)]
pub struct Installation {
    /// GatewayClasses with this controllerName are ours
    #[arg(
        long,
        value_name = "NAME",
        env = "CONTROLLER_NAME",
        default_value = "gateway.envoyproxy.io/gatewayclass-controller"
    )]
    pub controller_name: String,
    /// Namespace of the controller and the proxies
    #[arg(long, value_name = "NAME", env = "ENVOY_GATEWAY_NAMESPACE", default_value = "envoy-gateway-system")]
    pub namespace: String,
    /// The cluster's DNS suffix
    #[arg(long, value_name = "DOMAIN", env = "KUBERNETES_CLUSTER_DOMAIN", default_value = "cluster.local")]
    pub dns_domain: String,
    /// Run Envoys in the namespaces of their Gateways instead of the controller's; they show tokens, whatever --identity-by says
    #[arg(long, env = "GATEWAY_NAMESPACE_MODE")]
    pub gateway_namespace_mode: bool,
    /// Serve the Gateways and routes of these namespaces only, and read nothing elsewhere [default: all]
    #[arg(long, value_name = "NAMES", env = "WATCH_NAMESPACES", value_delimiter = ',')]
    pub watch_namespaces: Vec<String>,
}

impl Installation {
    /// What the translation has to know of it.
    pub fn settings(&self) -> Settings {
        let namespace = &self.namespace;
        let mut settings = Settings {
            controller_name: self.controller_name.clone(),
            namespace: namespace.clone(),
            dns_domain: self.dns_domain.clone(),
            gateway_namespace_mode: self.gateway_namespace_mode,
            ..Settings::default()
        };
        let service = |name: &str| format!("{name}.{namespace}.svc.{}", self.dns_domain);
        if let Some(rate_limit) = &mut settings.rate_limit {
            rate_limit.address = ServiceAddress::Dns { host: service(infra::RATE_LIMIT), port: 8081 };
        }
        settings.extauth = Some(ServiceAddress::Dns { host: service(infra::EXTAUTH), port: 10003 });
        settings
    }

    /// Where it looks for objects.
    pub fn scope(&self) -> Scope {
        // A variable that is set to nothing is one empty name.
        let watched = self.watch_namespaces.iter().map(|name| name.trim()).filter(|name| !name.is_empty());
        Scope {
            own: self.namespace.clone(),
            watched: watched.map(str::to_owned).collect(),
            gateway_namespace_mode: self.gateway_namespace_mode,
        }
    }
}
