//! One provider: what is asked of it, and what of its answers is believed.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use openidconnect::core::{
    CoreAuthenticationFlow, CoreClient, CoreErrorResponseType, CoreJwsSigningAlgorithm, CoreTokenResponse,
};
use openidconnect::{
    AccessTokenHash, AuthType, AuthUrl, AuthorizationCode, ClientId, ClientSecret, CsrfToken, EndpointNotSet,
    EndpointSet, IssuerUrl, Nonce, OAuth2TokenResponse as _, PkceCodeChallenge, PkceCodeVerifier, RedirectUrl,
    RefreshToken, RequestTokenError, Scope, StandardErrorResponse, TokenResponse as _, TokenUrl,
};
use proto::extauth::{ClientAuth, OidcProvider};
use serde_json::{Map, Value, json};
use url::Url;

use super::issuer::{Issuer, Known, acceptable, text};
use super::{Http, user_info};
use crate::fetch::{DEADLINE, Fetch, Unusable};
use crate::method::Invalid;
use crate::resources::Resources;
use crate::session::{self, Record, Refused};
use crate::{json as strict_json, random};

/// Algorithms of ID tokens. HMAC, whose key would be the client's secret, and `none` are not among them.
const ALGORITHMS: [CoreJwsSigningAlgorithm; 9] = [
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha384,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha512,
    CoreJwsSigningAlgorithm::RsaSsaPssSha256,
    CoreJwsSigningAlgorithm::RsaSsaPssSha384,
    CoreJwsSigningAlgorithm::RsaSsaPssSha512,
    CoreJwsSigningAlgorithm::EcdsaP256Sha256,
    CoreJwsSigningAlgorithm::EcdsaP384Sha384,
    CoreJwsSigningAlgorithm::EdDsa,
];
/// How long an assertion of ours is good, in seconds.
const ASSERTION: u64 = 60;
const WEEK: u64 = 604_800;

type Client = CoreClient<EndpointSet, EndpointNotSet, EndpointNotSet, EndpointNotSet, EndpointSet, EndpointNotSet>;

/// A provider, and what it knows us by.
pub(super) struct Provider {
    pub(super) config: OidcProvider,
    /// Whose sessions are its own.
    pub(super) client: session::Client,
    pub(super) issuer: Arc<Issuer>,
    url: IssuerUrl,
    authorization: Option<AuthUrl>,
    token: Option<TokenUrl>,
    end_session: Option<Url>,
    key: Option<(Header, EncodingKey)>,
    fetch: Fetch,
}

/// What a login proves by: kept from its start to its end.
pub(super) struct Proof<'a> {
    pub(super) nonce: &'a str,
    pub(super) verifier: &'a str,
}

impl std::fmt::Debug for Provider {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("Provider").field(&self.config).finish()
    }
}

impl Provider {
    /// Checks the configuration; the error's field is below the provider.
    pub(super) fn compile(config: &OidcProvider, resources: &Resources) -> Result<Self, Invalid> {
        if config.client_id.is_empty() {
            return Err(Invalid::new("clientID", "is empty"));
        }
        let url = endpoint("issuer", Some(&config.issuer), config.allow_http)?;
        if url.is_none_or(|url| url.query().is_some() || url.fragment().is_some()) {
            return Err(Invalid::new("issuer", "has a query or a fragment"));
        }
        let issuer = IssuerUrl::new(config.issuer.clone()).map_err(|e| Invalid::new("issuer", &e))?;
        let optional = |field, text: &Option<String>| endpoint(field, text.as_ref(), config.allow_http);
        if config.client_secret_file.is_some() || config.client_key_file.is_some() {
            let field = if config.client_key_file.is_some() { "clientKeyFile" } else { "clientSecretFile" };
            return Err(Invalid::new(field, "is only known where policies are read from files"));
        }
        let secret = config.client_secret.as_ref().is_some_and(|secret| !secret.is_empty());
        if secret != matches!(config.client_auth, ClientAuth::SecretBasic | ClientAuth::SecretPost) {
            let problem = if secret { "is not used by this `clientAuth`" } else { "is missing or empty" };
            return Err(Invalid::new("clientSecret", problem));
        }
        for name in config.authorization_params.keys() {
            if RESERVED.contains(&name.as_str()) {
                return Err(Invalid::new(format!("authorizationParams.{name}"), "is set by us"));
            }
        }
        let unusable = |(field, problem): Unusable| Invalid::new(format!("backends.{field}"), &problem);
        let fetch = match &config.backends {
            Some(backends) => resources.fetch.at(backends).map_err(unusable)?,
            None => resources.fetch.clone(),
        };
        let fetch = match (config.request_timeout_ms.map(Duration::from_millis), &config.retry) {
            (None, None) => fetch,
            (deadline, retry) => fetch.patient(Some(deadline.unwrap_or(DEADLINE)), retry.clone()),
        };
        Ok(Self {
            issuer: resources.issuers.find(&issuer, config, &fetch, &resources.background),
            url: issuer,
            authorization: optional("authorizationEndpoint", &config.authorization_endpoint)?.map(AuthUrl::from_url),
            token: optional("tokenEndpoint", &config.token_endpoint)?.map(TokenUrl::from_url),
            end_session: optional("endSessionEndpoint", &config.end_session_endpoint)?,
            key: signing_key(config)?,
            fetch,
            client: session::Client::of(&config.name, &config.issuer, &config.client_id),
            config: config.clone(),
        })
    }

    /// Where to send a browser to log in.
    pub(super) async fn authorize(&self, redirect: &str, state: &str, proof: &Proof<'_>) -> Result<Url, Refused> {
        let known = self.known().await?;
        let client = self.client(&known, redirect)?;
        let verifier = PkceCodeVerifier::new(proof.verifier.to_owned());
        let (state, nonce) = (CsrfToken::new(state.to_owned()), Nonce::new(proof.nonce.to_owned()));
        let mut request = client
            .authorize_url(CoreAuthenticationFlow::AuthorizationCode, || state, || nonce)
            .set_pkce_challenge(PkceCodeChallenge::from_code_verifier_sha256(&verifier))
            .add_scopes(self.config.scopes.iter().filter(|scope| *scope != "openid").cloned().map(Scope::new));
        for resource in &self.config.resources {
            request = request.add_extra_param("resource", resource.clone());
        }
        for (name, value) in &self.config.authorization_params {
            request = request.add_extra_param(name.clone(), value.clone());
        }
        Ok(request.url().0)
    }

    /// Turns the code of a login into the session that came of it.
    pub(super) async fn login(&self, redirect: &str, code: &str, proof: &Proof<'_>) -> Result<Record, Refused> {
        let known = self.known().await?;
        let client = self.client(&known, redirect)?;
        let mut request = client
            .exchange_code(AuthorizationCode::new(code.to_owned()))
            .set_pkce_verifier(PkceCodeVerifier::new(proof.verifier.to_owned()));
        for (name, value) in self.token_parameters(&known)? {
            request = request.add_extra_param(name, value);
        }
        let http = Http(self.fetch.clone());
        let tokens = request.request_async(&http).await.map_err(refused)?;
        let nonce = Nonce::new(proof.nonce.to_owned());
        let claims = self.verify(known, &tokens, Some(&nonce)).await?;
        let claims = claims.ok_or_else(|| Refused::Final("the provider sent no ID token".to_owned()))?;
        let now = now();
        let mut record = Record {
            provider: self.config.name.clone(),
            issuer: self.config.issuer.clone(),
            client_id: self.config.client_id.clone(),
            subject: claims.get("sub").and_then(Value::as_str).unwrap_or_default().to_owned(),
            sid: claims.get("sid").and_then(Value::as_str).map(str::to_owned),
            id_token: String::new(),
            user_info: Map::new(),
            access_token: String::new(),
            access_expires: 0,
            refresh_token: None,
            created: now,
            renewed: now,
            expires: 0,
            latest: None,
        };
        self.fill(&mut record, &tokens, now)?;
        if self.config.user_info {
            let known = self.known().await?;
            record.user_info = user_info::fetch(&self.fetch, &known, &record).await?;
        }
        Ok(record)
    }

    /// Fetches a session's next tokens.
    pub(super) async fn refresh(&self, mut record: Record) -> Result<Record, Refused> {
        let Some(token) = record.refresh_token.clone() else {
            return Err(Refused::Final("the session has no refresh token".to_owned()));
        };
        let known = self.known().await?;
        // No redirect is part of a refresh.
        let client = self.client(&known, &self.config.issuer)?;
        let token = RefreshToken::new(token);
        let mut request = client.exchange_refresh_token(&token);
        for (name, value) in self.token_parameters(&known)? {
            request = request.add_extra_param(name, value);
        }
        let http = Http(self.fetch.clone());
        let tokens = request.request_async(&http).await.map_err(refused)?;
        let claims = self.verify(known, &tokens, None).await?;
        let other = claims.is_some_and(|claims| claims.get("sub").and_then(Value::as_str) != Some(&record.subject));
        if other {
            return Err(Refused::Final("the provider renewed the session for another user".to_owned()));
        }
        self.fill(&mut record, &tokens, now())?;
        Ok(record)
    }

    /// Where to send a browser to log out, if the provider has such a place.
    pub(super) async fn end_session(&self, id_token: Option<&str>, then: Option<&str>) -> Option<Url> {
        /// A longer URL would be refused by somebody on the way; the client's id says enough.
        const LONGEST_HINT: usize = 4096;
        let discovered = || async {
            let known = self.issuer.known().await.ok()?;
            known.metadata.additional_metadata().end_session_endpoint.clone()
        };
        let mut url = match &self.end_session {
            Some(url) => url.clone(),
            None => discovered().await?,
        };
        {
            let mut query = url.query_pairs_mut();
            query.append_pair("client_id", &self.config.client_id);
            if let Some(id_token) = id_token.filter(|token| token.len() <= LONGEST_HINT) {
                query.append_pair("id_token_hint", id_token);
            }
            if let Some(then) = then {
                query.append_pair("post_logout_redirect_uri", then);
            }
        }
        Some(url)
    }

    /// Whether every answer of the provider says whose it is.
    pub(super) async fn says_issuer(&self) -> Result<bool, Refused> {
        Ok(self.known().await?.metadata.additional_metadata().authorization_response_iss_parameter_supported)
    }

    async fn known(&self) -> Result<Arc<Known>, Refused> {
        self.issuer.known().await.map_err(|error| Refused::Unavailable(error.to_string()))
    }

    fn client(&self, known: &Known, redirect: &str) -> Result<Client, Refused> {
        let metadata = &known.metadata;
        let token = self.token.as_ref().or_else(|| metadata.token_endpoint());
        let token = token.ok_or_else(|| Refused::Unavailable("the provider has no token endpoint".to_owned()))?;
        let authorization = self.authorization.as_ref().unwrap_or_else(|| metadata.authorization_endpoint());
        let redirect = RedirectUrl::new(redirect.to_owned()).map_err(|e| Refused::Final(e.to_string()))?;
        let id = ClientId::new(self.config.client_id.clone());
        let client = CoreClient::new(id, self.url.clone(), metadata.jwks().clone())
            .set_auth_uri(authorization.clone())
            .set_token_uri(token.clone())
            .set_redirect_uri(redirect)
            .set_auth_type(match self.config.client_auth {
                ClientAuth::SecretBasic => AuthType::BasicAuth,
                ClientAuth::SecretPost | ClientAuth::PrivateKeyJwt | ClientAuth::None => AuthType::RequestBody,
            });
        Ok(match &self.config.client_secret {
            Some(secret) => client.set_client_secret(ClientSecret::new(secret.expose().to_owned())),
            None => client,
        })
    }

    /// What the token endpoint is told besides what every client tells it.
    fn token_parameters(&self, known: &Known) -> Result<Vec<(&'static str, String)>, Refused> {
        let mut parameters: Vec<_> =
            self.config.resources.iter().map(|resource| ("resource", resource.clone())).collect();
        if let Some((header, key)) = &self.key {
            let endpoint = self.token.as_ref().or_else(|| known.metadata.token_endpoint()).map(|url| url.as_str());
            let now = now();
            let claims = json!({
                "iss": self.config.client_id, "sub": self.config.client_id, "aud": endpoint,
                "jti": random::text(), "iat": now, "exp": now + ASSERTION,
            });
            let assertion =
                jsonwebtoken::encode(header, &claims, key).map_err(|e| Refused::Unavailable(e.to_string()))?;
            let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
            parameters.extend([("client_assertion_type", kind.to_owned()), ("client_assertion", assertion)]);
        }
        Ok(parameters)
    }

    /// The claims of the ID token, if there is one and it is to be believed. A key that is not known makes us ask for keys.
    async fn verify(
        &self,
        known: Arc<Known>,
        tokens: &CoreTokenResponse,
        nonce: Option<&Nonce>,
    ) -> Result<Option<Map<String, Value>>, Refused> {
        let Some(id_token) = tokens.id_token() else { return Ok(None) };
        if let Err(error) = self.believe(&known, tokens, nonce) {
            let again = self.issuer.known_again().await.map_err(|error| Refused::Unavailable(error.to_string()))?;
            if Arc::ptr_eq(&again, &known) {
                return Err(error);
            }
            self.believe(&again, tokens, nonce)?;
        }
        let claims = strict_json::payload(&id_token.to_string());
        claims.map(Some).ok_or_else(|| Refused::Final("the ID token's claims are no plain JSON object".to_owned()))
    }

    fn believe(&self, known: &Known, tokens: &CoreTokenResponse, nonce: Option<&Nonce>) -> Result<(), Refused> {
        let Some(id_token) = tokens.id_token() else { return Ok(()) };
        let leeway = Duration::from_secs(self.config.leeway_seconds);
        let client = self.client(known, &self.config.issuer)?;
        let verifier = client
            .id_token_verifier()
            .set_allowed_algs(ALGORITHMS)
            .set_time_fn(move || SystemTime::now().checked_sub(leeway).unwrap_or(UNIX_EPOCH).into())
            .set_issue_time_verifier_fn(move |issued| {
                let issued = SystemTime::from(issued);
                if issued <= SystemTime::now() + leeway { Ok(()) } else { Err("issued in the future".to_owned()) }
            });
        let refuse = |error: &dyn std::error::Error| Refused::Final(format!("the ID token: {}", text(error)));
        let claims = match nonce {
            Some(nonce) => id_token.claims(&verifier, nonce),
            // A renewed token may repeat the first one's nonce, which nobody keeps.
            None => id_token.claims(&verifier, |_: Option<&Nonce>| Ok(())),
        };
        let claims = claims.map_err(|error| refuse(&error))?;
        if claims.subject().is_empty() {
            return Err(Refused::Final("the ID token names no subject".to_owned()));
        }
        let Some(expected) = claims.access_token_hash() else { return Ok(()) };
        let algorithm = id_token.signing_alg().map_err(|error| refuse(&error))?;
        let key = id_token.signing_key(&verifier).map_err(|error| refuse(&error))?;
        let actual =
            AccessTokenHash::from_token(tokens.access_token(), algorithm, key).map_err(|error| refuse(&error))?;
        if actual == *expected {
            Ok(())
        } else {
            Err(Refused::Final("`at_hash` is of another access token".to_owned()))
        }
    }

    /// Puts new tokens into a session; what the provider did not send again stays as it was.
    fn fill(&self, record: &mut Record, tokens: &CoreTokenResponse, now: u64) -> Result<(), Refused> {
        let lifetime = tokens.expires_in().map_or(self.config.default_token_ttl_seconds, |lifetime| lifetime.as_secs());
        if lifetime == 0 {
            let problem = "the provider does not say how long its access token lives; `defaultTokenTTLSeconds` may";
            return Err(Refused::Final(problem.to_owned()));
        }
        if let Some(id_token) = tokens.id_token() {
            record.id_token = id_token.to_string();
        }
        tokens.access_token().secret().clone_into(&mut record.access_token);
        record.access_expires = now.saturating_add(lifetime);
        record.renewed = now;
        if self.config.refresh_token
            && let Some(token) = tokens.refresh_token()
        {
            record.refresh_token = Some(token.secret().clone());
        }
        record.expires = match &record.refresh_token {
            Some(token) => refresh_expires(token).unwrap_or_else(|| {
                let default = self.config.default_refresh_token_ttl_seconds;
                now.saturating_add(if default == 0 { WEEK } else { default })
            }),
            None => record.access_expires,
        };
        record.expires = record.latest.map_or(record.expires, |latest| latest.min(record.expires));
        Ok(())
    }
}

/// Parameters of the authorization request that are not for anybody else to set.
const RESERVED: [&str; 9] = [
    "client_id",
    "code_challenge",
    "code_challenge_method",
    "nonce",
    "redirect_uri",
    "request",
    "response_type",
    "scope",
    "state",
];

/// Seconds since 1970.
pub(super) fn now() -> u64 {
    UNIX_EPOCH.elapsed().map_or(0, |elapsed| elapsed.as_secs())
}

fn endpoint(field: &str, text: Option<&String>, allow_http: bool) -> Result<Option<Url>, Invalid> {
    let Some(text) = text else { return Ok(None) };
    let url = Url::parse(text).map_err(|e| Invalid::new(field, &format!("is no URL: {e}")))?;
    if !acceptable(&url, allow_http) {
        return Err(Invalid::new(field, "is not https; `allowHttp` is for those who can do without"));
    }
    Ok(Some(url))
}

/// What a refresh token that is a JWT says of its end. Nobody verifies it: it is our own credential, not a client's.
fn refresh_expires(token: &str) -> Option<u64> {
    strict_json::payload(token)?.get("exp").and_then(Value::as_u64)
}

fn signing_key(config: &OidcProvider) -> Result<Option<(Header, EncodingKey)>, Invalid> {
    let wanted = config.client_auth == ClientAuth::PrivateKeyJwt;
    let Some(key) = &config.client_key else {
        return if wanted { Err(Invalid::new("clientKey", "is missing")) } else { Ok(None) };
    };
    if !wanted {
        return Err(Invalid::new("clientKey", "is not used by this `clientAuth`"));
    }
    let name = config.client_key_algorithm.as_deref().unwrap_or("RS256");
    let algorithm = crate::jwks::algorithm(name)
        .ok_or_else(|| Invalid::new("clientKeyAlgorithm", &format!("`{name}` is no algorithm to sign with")))?;
    let pem = key.expose().as_bytes();
    let key = match algorithm {
        Algorithm::ES256 | Algorithm::ES384 => EncodingKey::from_ec_pem(pem),
        Algorithm::EdDSA => EncodingKey::from_ed_pem(pem),
        _ => EncodingKey::from_rsa_pem(pem),
    };
    let key = key.map_err(|_| Invalid::new("clientKey", &format!("is no private key for {name} in PEM")))?;
    Ok(Some((Header { kid: config.client_key_id.clone(), ..Header::new(algorithm) }, key)))
}

/// Whether the provider said no, or nothing that can be understood.
fn refused<E>(error: RequestTokenError<E, StandardErrorResponse<CoreErrorResponseType>>) -> Refused
where
    E: std::error::Error + 'static,
{
    match error {
        // Its own words may repeat the code or the token that it was sent.
        RequestTokenError::ServerResponse(answer) => Refused::Final(match answer.error() {
            CoreErrorResponseType::Extension(_) => "the token endpoint refused, with an error of its own".to_owned(),
            known => format!("the token endpoint: {known}"),
        }),
        // What it says stands in the answer's body, which nobody needs to see.
        RequestTokenError::Parse(error, _) => Refused::Unavailable(format!("the token endpoint's answer: {error}")),
        RequestTokenError::Request(error) => Refused::Unavailable(format!("the token endpoint: {}", text(&error))),
        RequestTokenError::Other(error) => Refused::Unavailable(format!("the token endpoint: {error}")),
    }
}
