//! Which proxy a client is: an Envoy gets what is meant for it, and nothing else.

use std::{fmt, sync::Arc};

use controller_core::{Settings, infra};
use proto::serve::Peer;
use tokio::sync::watch;
use tonic::{Request, Status};

use crate::{apply::Wanted, cluster::Reviewer, error::chain};

/// How clients show who they are.
#[derive(Clone, Debug)]
pub enum Identity {
    /// Not at all: whoever can connect is believed.
    Unverified,
    /// By a certificate for `<name>.<home>`, which the handshake has verified. One for `*.<home>` is shared by all of them.
    Certificate {
        /// Namespace of the proxies and of the services.
        home: String,
        /// What whoever shows a shared certificate has to show besides; `None` believes all of them.
        tokens: Option<Tokens>,
    },
    /// By a token.
    Token(Tokens),
}

/// The tokens of the service accounts that clients' pods run as.
#[derive(Clone, Debug)]
pub struct Tokens {
    /// Who knows them.
    pub reviewer: Reviewer,
    /// Which service account each fleet has.
    pub accounts: Accounts,
}

/// The service accounts of fleets.
#[derive(Clone)]
pub struct Accounts {
    settings: Arc<Settings>,
    fleets: watch::Receiver<Option<Arc<Wanted>>>,
}

/// Who has opened a stream. Names are `<name>.<namespace>`.
#[derive(Debug)]
pub(super) enum Client {
    Anybody,
    Named { home: String, names: Vec<String> },
    Account { name: String, accounts: Accounts },
}

impl fmt::Debug for Accounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Accounts").finish_non_exhaustive()
    }
}

impl Accounts {
    /// Those of `fleets`; a fleet that is not known yet has the account that it has by default.
    pub fn new(settings: Arc<Settings>, fleets: watch::Receiver<Option<Arc<Wanted>>>) -> Self {
        Self { settings, fleets }
    }

    /// `<name>.<namespace>` of the service account that the Envoys of the proxy `key` run as.
    fn of_proxy(&self, key: &str) -> String {
        let wanted = self.fleets.borrow();
        let mut fleets = wanted.iter().flat_map(|wanted| &wanted.fleets);
        if let Some(fleet) = fleets.find(|fleet| fleet.placement.key == key) {
            return format!("{}.{}", fleet.service_account_name(), fleet.placement.namespace);
        }
        let (namespace, name) = infra::place(&self.settings, key);
        format!("{name}.{namespace}")
    }
}

impl Identity {
    /// Finds out who sends the request.
    pub(super) async fn client<T>(&self, request: &Request<T>) -> Result<Client, Status> {
        match self {
            Self::Unverified => Ok(Client::Anybody),
            Self::Certificate { home, tokens } => {
                let names = request.extensions().get::<Peer>().map(|peer| peer.names().to_vec());
                let client = Client::Named { home: home.clone(), names: names.unwrap_or_default() };
                match tokens {
                    Some(tokens) if client.is_exactly("*") => tokens.client(request).await,
                    _ => Ok(client),
                }
            }
            Self::Token(tokens) => tokens.client(request).await,
        }
    }
}

impl Tokens {
    async fn client<T>(&self, request: &Request<T>) -> Result<Client, Status> {
        let name = self.reviewer.name(bearer(request)?).await.map_err(|error| {
            tracing::warn!("a client's token cannot be reviewed: {}", chain(&error));
            Status::unavailable("the client's token cannot be reviewed now")
        })?;
        let name = name.ok_or_else(|| Status::unauthenticated("the client's token is not good"))?;
        Ok(Client::Account { name, accounts: self.accounts.clone() })
    }
}

impl Client {
    /// It is an Envoy of the proxy `key`, `<namespace>/<gateway>` or `<class>`.
    pub(super) fn is_of_proxy(&self, key: &str) -> bool {
        match self {
            Self::Anybody => true,
            Self::Named { .. } => self.is_named(&infra::fleet_of(key)),
            Self::Account { name, accounts } => accounts.of_proxy(key) == *name,
        }
    }

    /// It is the service `name`, or one of its replicas. Certificates for `*` are believed, as Envoy Gateway gives them to all.
    pub(super) fn is_named(&self, name: &str) -> bool {
        self.is_exactly(name) || self.is_exactly("*")
    }

    /// It shows this very name. Services show certificates.
    pub(super) fn is_exactly(&self, name: &str) -> bool {
        let (home, names) = match self {
            Self::Anybody => return true,
            Self::Named { home, names } => (home, names),
            Self::Account { .. } => return false,
        };
        names.iter().filter_map(|full| full.split_once('.')).any(|(host, namespace)| namespace == home && host == name)
    }
}

fn bearer<T>(request: &Request<T>) -> Result<&str, Status> {
    let value = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
    let token = value.and_then(|value| value.strip_prefix("Bearer "));
    token.ok_or_else(|| Status::unauthenticated("the client shows no token"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use controller_core::{Snapshot, translate};
    use serde_json::{Value, json};

    use super::*;

    fn client(names: &[&str]) -> Client {
        Client::Named { home: "system".into(), names: names.iter().map(|name| (*name).to_owned()).collect() }
    }

    #[test]
    fn a_name_is_good_for_its_own_fleet() {
        let name = |gateway, home| format!("{}.{home}", infra::fleet_name("web", gateway));
        assert!(client(&[&name("eg", "system")]).is_of_proxy("web/eg"));
        assert!(!client(&[&name("other", "system")]).is_of_proxy("web/eg"));
        assert!(!client(&[&name("eg", "elsewhere")]).is_of_proxy("web/eg"));
        assert!(client(&["*.system"]).is_of_proxy("web/eg"));
        assert!(!client(&["*.elsewhere"]).is_of_proxy("web/eg"));
        assert!(!client(&["*.x.system"]).is_of_proxy("web/eg"));
        assert!(!client(&[]).is_of_proxy("web/eg"));
        assert!(client(&[&format!("{}.system", infra::class_fleet_name("class"))]).is_of_proxy("class"));
        assert!(client(&["*.system"]).is_of_proxy("class"));
        assert!(!client(&[&name("class", "system")]).is_of_proxy("class"));
        assert!(Client::Anybody.is_of_proxy("web/eg"));
    }

    #[test]
    fn what_everybody_may_show_is_nobodys_own_name() {
        assert!(client(&["*.system"]).is_named("envoy-extauth"));
        assert!(!client(&["*.system"]).is_exactly("envoy-extauth"));
        assert!(client(&["*.system", "envoy-extauth.system"]).is_exactly("envoy-extauth"));
        for names in
            [&["envoy-extauth.elsewhere"][..], &["envoy-extauth"], &["envoy-extauth.system.svc"], &["a.system"], &[]]
        {
            assert!(!client(names).is_exactly("envoy-extauth"), "{names:?}");
        }
    }

    fn wanted(settings: &Settings) -> Wanted {
        let parameters = |name: &str| json!({"group": "gateway.envoyproxy.io", "kind": name, "name": "named"});
        let gateway = |name: &str, infrastructure: Value| {
            json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
                "metadata": {"name": name, "namespace": "web"},
                "spec": {"gatewayClassName": "eg", "infrastructure": infrastructure,
                    "listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}]}})
        };
        let objects = [
            json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass", "metadata": {"name": "eg"},
                "spec": {"controllerName": settings.controller_name}}),
            json!({"apiVersion": "gateway.envoyproxy.io/v1alpha1", "kind": "EnvoyProxy",
                "metadata": {"name": "named", "namespace": "web"},
                "spec": {"provider": {"type": "Kubernetes",
                    "kubernetes": {"envoyServiceAccount": {"name": "somebody"}}}}}),
            gateway("eg", json!({})),
            gateway("named", json!({"parametersRef": parameters("EnvoyProxy")})),
        ];
        let mut snapshot = Snapshot::default();
        for object in objects {
            snapshot.insert(object).unwrap();
        }
        Wanted::new(&translate(&snapshot, settings), &snapshot)
    }

    #[test]
    fn an_account_is_good_for_the_fleet_that_runs_as_it() {
        for (apart, own) in [(true, "eg.web".to_owned()), (false, format!("{}.system", infra::fleet_name("web", "eg")))]
        {
            let settings =
                Settings { gateway_namespace_mode: apart, namespace: "system".into(), ..Settings::default() };
            let (fleets, receiver) = watch::channel(None);
            let accounts = Accounts::new(Arc::new(settings.clone()), receiver);
            let client = |name: &str| Client::Account { name: name.into(), accounts: accounts.clone() };
            // Before anything is known, and after.
            assert!(client(&own).is_of_proxy("web/eg"), "{own}");
            fleets.send_replace(Some(Arc::new(wanted(&settings))));
            assert!(client(&own).is_of_proxy("web/eg"), "{own}");
            assert!(!client(&own).is_of_proxy("web/named"));
            assert!(!client("eg.elsewhere").is_of_proxy("web/eg"));
            assert!(client(&format!("somebody.{}", if apart { "web" } else { "system" })).is_of_proxy("web/named"));
            assert!(!client("envoy-ratelimit.system").is_named("envoy-ratelimit"));
        }
    }
}
