//! Which proxy a client is: an Envoy gets what is meant for it, and nothing else.

use controller_core::infra;
use proto::serve::Peer;
use tonic::{Request, Status};

use crate::cluster::Reviewer;

/// How clients show who they are.
#[derive(Clone, Debug)]
pub enum Identity {
    /// Not at all: whoever can connect is believed.
    Unverified,
    /// By a certificate, which the handshake has verified, for `<name>.<home>`; one for `*.<home>`, which Envoy Gateway gives to all of them, makes no
    /// difference between them.
    Certificate {
        /// Namespace of the proxies and of the services.
        home: String,
    },
    /// By the token of the service account that is called as they are, in the namespace `home`.
    Token {
        /// Namespace of the proxies and of the services.
        home: String,
        /// Who knows the tokens.
        reviewer: Reviewer,
    },
}

/// Who has opened a stream. Names are `<name>.<namespace>`.
#[derive(Debug)]
pub(super) enum Client {
    Anybody,
    Named { home: String, names: Vec<String> },
}

impl Identity {
    /// Finds out who sends the request.
    pub(super) async fn client<T>(&self, request: &Request<T>) -> Result<Client, Status> {
        match self {
            Self::Unverified => Ok(Client::Anybody),
            Self::Certificate { home } => {
                let names = request.extensions().get::<Peer>().map(|peer| peer.names().to_vec());
                Ok(Client::Named { home: home.clone(), names: names.unwrap_or_default() })
            }
            Self::Token { home, reviewer } => {
                let name = reviewer.name(bearer(request)?).await.map_err(|error| {
                    tracing::warn!("a client's token cannot be reviewed: {error}");
                    Status::unavailable("the client's token cannot be reviewed now")
                })?;
                let name = name.ok_or_else(|| Status::unauthenticated("the client's token is not good"))?;
                Ok(Client::Named { home: home.clone(), names: vec![name] })
            }
        }
    }
}

impl Client {
    /// It is an Envoy of the proxy `key`, `<namespace>/<gateway>`.
    pub(super) fn is_of_proxy(&self, key: &str) -> bool {
        match self {
            Self::Anybody => true,
            Self::Named { .. } => {
                let fleet = key.split_once('/').map(|(namespace, gateway)| infra::fleet_name(namespace, gateway));
                fleet.is_some_and(|fleet| self.is_named(&fleet))
            }
        }
    }

    /// It is the service `name`, or one of its replicas. Certificates for `*` are believed, as Envoy Gateway gives them to all.
    pub(super) fn is_named(&self, name: &str) -> bool {
        self.is_exactly(name) || self.is_exactly("*")
    }

    /// It shows this very name.
    pub(super) fn is_exactly(&self, name: &str) -> bool {
        let Self::Named { home, names } = self else { return true };
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
        assert!(!client(&["*.system"]).is_of_proxy("class"));
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
}
