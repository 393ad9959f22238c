//! TLS with backends: BackendTLSPolicy, and what a Backend says of itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use controller_api::backend::BackendTlsSettings;
use gateway_api::apis::standard::backendtlspolicies::{
    BackendTlsPolicy, BackendTlsPolicySpec, BackendTlsPolicyValidationSubjectAltNamesType as NameType,
};

use super::{fault::Fault, hostname, inputs::Inputs, tls};
use crate::{
    ir::{Authorities, BackendTls, Certificate, ObjectRef, ServerName, SubjectAltName},
    snapshot::{Key, Snapshot},
};

/// Why a policy cannot be in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// Of the condition `ResolvedRefs`.
    pub(super) reason: &'static str,
    /// A sentence without its full stop.
    pub(super) message: String,
}

/// A BackendTLSPolicy, read once.
#[derive(Debug)]
pub(super) struct Policy<'s> {
    /// Namespace and name.
    pub(super) key: &'s Key,
    /// As the user wrote it.
    pub(super) object: &'s BackendTlsPolicy,
    /// What it comes to, unless no authority is left to believe.
    pub(super) tls: Result<Arc<BackendTls>, Refusal>,
    /// A reference that leads nowhere, beside others that do.
    pub(super) partial: Option<Refusal>,
}

/// Namespace, kind and name.
type Target<'s> = (&'s str, &'static str, &'s str);

/// All BackendTLSPolicies by what they target: namespace, kind and name.
#[derive(Debug, Default)]
pub(super) struct Policies<'s> {
    policies: Vec<Policy<'s>>,
    /// Section and index, in order of precedence.
    by_target: BTreeMap<Target<'s>, Vec<(Option<&'s str>, usize)>>,
}

/// The policies of one backend.
#[derive(Debug, Default)]
pub(super) struct Found<'p, 's> {
    /// The one in force.
    pub(super) policy: Option<&'p Policy<'s>>,
    /// Younger ones for the same section.
    pub(super) conflicted: Vec<&'p Policy<'s>>,
}

impl<'s> Policies<'s> {
    /// Reads the policies of `snapshot`.
    pub(super) fn new(snapshot: &'s Snapshot) -> Self {
        let mut policies: Vec<_> =
            snapshot.backend_tls_policies.iter().map(|(key, object)| read(snapshot, key, object)).collect();
        // The oldest wins; the map has them in order of namespace and name already.
        policies.sort_by_key(|policy| policy.object.metadata.creation_timestamp.clone());
        let mut by_target: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (index, policy) in policies.iter().enumerate() {
            for target in &policy.object.spec.target_refs {
                let kind = match (target.group.as_str(), target.kind.as_str()) {
                    ("", "Service") => "Service",
                    ("gateway.envoyproxy.io", "Backend") => "Backend",
                    ("multicluster.x-k8s.io", "ServiceImport") => "ServiceImport",
                    _ => continue,
                };
                let section = target.section_name.as_deref().filter(|section| !section.is_empty());
                let entry: &mut Vec<_> =
                    by_target.entry((policy.key.0.as_str(), kind, target.name.as_str())).or_default();
                entry.push((section, index));
            }
        }
        Self { policies, by_target }
    }

    /// All of them, oldest first.
    pub(super) fn all(&self) -> &[Policy<'s>] {
        &self.policies
    }

    /// Those for a section of `object`: a Service's port by name, a Backend's by number. One that names the section goes
    /// before those for all.
    pub(super) fn of(&self, object: &ObjectRef, section: Option<&str>) -> Found<'_, 's> {
        let key = (object.namespace.as_str(), object.kind, object.name.as_str());
        let Some(entries) = self.by_target.get(&key) else { return Found::default() };
        let with = |wanted: Option<&str>| {
            let indices = entries.iter().filter(move |(own, _)| *own == wanted).map(|(_, index)| *index);
            indices.filter_map(|index| self.policies.get(index)).collect::<Vec<_>>()
        };
        let named = if section.is_some() { with(section) } else { Vec::new() };
        let mut ordered = if named.is_empty() { with(None) } else { named }.into_iter();
        Found { policy: ordered.next(), conflicted: ordered.collect() }
    }

    /// Whether there is a policy for each of `sections`, or for the whole object.
    fn cover(&self, object: &ObjectRef, sections: &BTreeSet<String>) -> bool {
        let found = |section: Option<&str>| self.of(object, section).policy.is_some();
        found(None) || (!sections.is_empty() && sections.iter().all(|section| found(Some(section))))
    }
}

/// TLS with a section of a backend, which may say something of itself in `own`.
pub(super) fn resolve(
    inputs: &Inputs<'_>,
    object: &ObjectRef,
    section: Option<&str>,
    own: Option<&BackendTlsSettings>,
) -> Result<Option<Arc<BackendTls>>, Fault> {
    let invalid = |message: &str| Fault::resolved_refs("InvalidBackendTLS", message);
    let policy = inputs.backend_tls.of(object, section).policy;
    let of_policy =
        policy.map(|policy| policy.tls.as_ref().map_err(|refusal| invalid(&refusal.message))).transpose()?;
    let of_backend = own
        .map(|own| settings(inputs, object, own, of_policy))
        .transpose()
        .map_err(|refusal| invalid(&refusal.message))?
        .flatten();
    Ok(of_backend.map(Arc::new).or_else(|| of_policy.cloned()))
}

/// Whether a Backend, or a BackendTLSPolicy for each of its ports, says whom to believe; not believing anybody needs a word too.
pub(super) fn says_whom_to_believe(
    inputs: &Inputs<'_>,
    object: &ObjectRef,
    own: &BackendTlsSettings,
    ports: &BTreeSet<String>,
) -> bool {
    own.insecure_skip_verify == Some(true)
        || own.well_known_ca_certificates.is_some()
        || !own.ca_certificate_refs.is_empty()
        || inputs.backend_tls.cover(object, ports)
}

fn read<'s>(snapshot: &'s Snapshot, key: &'s Key, object: &'s BackendTlsPolicy) -> Policy<'s> {
    let (tls, partial) = match from_spec(snapshot, key, &object.spec) {
        Ok((tls, partial)) => (Ok(Arc::new(tls)), partial),
        Err(refusal) => (Err(refusal), None),
    };
    Policy { key, object, tls, partial }
}

fn from_spec(
    snapshot: &Snapshot,
    (namespace, name): &Key,
    spec: &BackendTlsPolicySpec,
) -> Result<(BackendTls, Option<Refusal>), Refusal> {
    let validation = &spec.validation;
    let refused = |message: String| Refusal { reason: "InvalidCACertificateRef", message };
    if !hostname::is_valid(&validation.hostname) || validation.hostname.starts_with('*') {
        return Err(refused(format!("hostname {:?} is not a valid DNS name", validation.hostname)));
    }
    let references = validation.ca_certificate_refs.as_deref().unwrap_or_default();
    let references: Vec<_> =
        references.iter().map(|one| Reference { group: &one.group, kind: &one.kind, name: &one.name }).collect();
    let (authorities, partial) = match (references.as_slice(), validation.well_known_ca_certificates.as_deref()) {
        ([], Some("System")) => (Authorities::System, None),
        ([], Some(other)) => return Err(refused(format!("wellKnownCACertificates {other:?} is not supported"))),
        ([], None) => return Err(refused("no CA certificate is specified".to_owned())),
        (references, _) => bundle(snapshot, namespace, name, references)?,
    };
    let names = validation.subject_alt_names.iter().flatten().filter_map(|name| match name.r#type {
        NameType::Hostname => name.hostname.clone().map(SubjectAltName::Dns),
        NameType::Uri => name.uri.clone().map(SubjectAltName::Uri),
    });
    let mut subject_alt_names: Vec<_> = names.collect();
    if subject_alt_names.is_empty() {
        subject_alt_names.push(SubjectAltName::Dns(validation.hostname.clone()));
    }
    let server_name = ServerName::Fixed(validation.hostname.clone());
    let tls = BackendTls { authorities: Some(authorities), server_name, subject_alt_names, ..BackendTls::default() };
    Ok((tls, partial))
}

/// A reference to certificates of authorities, in the referrer's own namespace.
struct Reference<'a> {
    group: &'a str,
    kind: &'a str,
    name: &'a str,
}

/// All certificates that `references` lead to, and what is wrong with one of them; an error if that leaves none.
fn bundle(
    snapshot: &Snapshot,
    namespace: &str,
    owner: &str,
    references: &[Reference<'_>],
) -> Result<(Authorities, Option<Refusal>), Refusal> {
    let (mut pem, mut refusal) = (Vec::new(), None);
    for reference in references {
        match certificates(snapshot, namespace, reference) {
            Ok(certificates) => {
                if !pem.is_empty() && !pem.ends_with(b"\n") {
                    pem.push(b'\n');
                }
                pem.extend_from_slice(certificates);
            }
            Err(found) => {
                refusal.get_or_insert(found);
            }
        }
    }
    match refusal {
        Some(refusal) if pem.is_empty() => Err(refusal),
        refusal => Ok((Authorities::Bundle { name: format!("{owner}/{namespace}-ca"), pem }, refusal)),
    }
}

fn certificates<'s>(snapshot: &'s Snapshot, namespace: &str, reference: &Reference<'_>) -> Result<&'s [u8], Refusal> {
    let Reference { group, kind, name } = reference;
    let invalid = |message| Refusal { reason: "InvalidCACertificateRef", message };
    let key = (namespace.to_owned(), (*name).to_owned());
    let missing = |kind: &str| invalid(format!("{kind} {name} not found in namespace {namespace}"));
    let pem = match (*group, *kind) {
        ("", "ConfigMap") => {
            let map = snapshot.config_maps.get(&key).ok_or_else(|| missing("configmap"))?;
            let data = map.data.iter().flatten().map(|(key, text)| (key.as_str(), text.as_bytes()));
            let binary = map.binary_data.iter().flatten().map(|(key, bytes)| (key.as_str(), bytes.0.as_slice()));
            authority(data.chain(binary))
        }
        ("", "Secret") => {
            let secret = snapshot.secrets.get(&key).ok_or_else(|| missing("secret"))?;
            authority(secret.data.iter().flatten().map(|(key, bytes)| (key.as_str(), bytes.0.as_slice())))
        }
        ("" | "certificates.k8s.io", "ClusterTrustBundle") => {
            let key = (String::new(), (*name).to_owned());
            let bundle = snapshot.cluster_trust_bundles.get(&key);
            let bundle = bundle.ok_or_else(|| invalid(format!("cluster trust bundle {name} not found")))?;
            Some(bundle.spec.trust_bundle.as_bytes())
        }
        _ => {
            let message = "unsupported reference kind, supported kinds are ConfigMap, Secret, and ClusterTrustBundle in \
                           caCertificateRefs";
            return Err(Refusal { reason: "InvalidKind", message: message.to_owned() });
        }
    };
    let pem = pem.ok_or_else(|| invalid(format!("no ca found in {} {name}", kind.to_lowercase())))?;
    match tls::check_authorities(pem) {
        Ok(()) => Ok(pem),
        Err(cause) => Err(invalid(format!("{} {name}: {cause}", kind.to_lowercase()))),
    }
}

/// The certificates among `data`: under `ca.crt`, or else `tls.crt`, or else the only key there is.
fn authority<'a>(data: impl Iterator<Item = (&'a str, &'a [u8])>) -> Option<&'a [u8]> {
    let data: Vec<_> = data.collect();
    let under = |wanted: &str| data.iter().find(|(key, _)| *key == wanted).map(|(_, value)| *value);
    let only = || match data.as_slice() {
        [(_, value)] => Some(*value),
        _ => None,
    };
    under("ca.crt").or_else(|| under("tls.crt")).or_else(only)
}

/// What a Backend says of itself, beside what a policy says: the policy decides whom to believe, the Backend the rest.
/// Nothing at all when neither says whom to believe.
fn settings(
    inputs: &Inputs<'_>,
    object: &ObjectRef,
    own: &BackendTlsSettings,
    policy: Option<&Arc<BackendTls>>,
) -> Result<Option<BackendTls>, Refusal> {
    let mut tls = match policy {
        Some(policy) => policy.as_ref().clone(),
        None => match trust(inputs, object, own)? {
            Some(tls) => tls,
            None => return Ok(None),
        },
    };
    tls.alpn.clone_from(&own.alpn_protocols);
    tls.ciphers.clone_from(&own.ciphers);
    tls.ecdh_curves.clone_from(&own.ecdh_curves);
    tls.signature_algorithms.clone_from(&own.signature_algorithms);
    tls.min_version = version(own.min_version.as_deref())?;
    tls.max_version = version(own.max_version.as_deref())?;
    tls.client_certificate = own
        .client_certificate_ref
        .as_ref()
        .map(|reference| client_certificate(inputs, object, reference))
        .transpose()?;
    Ok(Some(tls))
}

/// Whom a Backend says to believe.
fn trust(inputs: &Inputs<'_>, object: &ObjectRef, own: &BackendTlsSettings) -> Result<Option<BackendTls>, Refusal> {
    let references: Vec<_> = own
        .ca_certificate_refs
        .iter()
        .map(|one| Reference { group: &one.group, kind: &one.kind, name: &one.name })
        .collect();
    let authorities = match (own.insecure_skip_verify, references.as_slice(), own.well_known_ca_certificates.as_deref())
    {
        (Some(true), ..) => None,
        (_, [], Some(_)) => Some(Authorities::System),
        (_, [], None) => return Ok(None),
        (_, references, _) => match bundle(inputs.snapshot, &object.namespace, &object.name, references)? {
            (authorities, None) => Some(authorities),
            (_, Some(refusal)) => return Err(refusal),
        },
    };
    let server_name = match &own.sni {
        Some(sni) => ServerName::Fixed(sni.clone()),
        None if own.auto_sni_from_endpoint_hostname == Some(true) => ServerName::OfEndpoint,
        None => ServerName::OfRequest,
    };
    Ok(Some(BackendTls { authorities, server_name, ..BackendTls::default() }))
}

/// `1.2` and the like; `Auto` is whatever Envoy thinks best.
fn version(text: Option<&str>) -> Result<Option<u8>, Refusal> {
    let Some(text) = text else { return Ok(None) };
    Ok(match text.trim_start_matches("tls") {
        "Auto" => None,
        "1.0" => Some(10),
        "1.1" => Some(11),
        "1.2" => Some(12),
        "1.3" => Some(13),
        _ => return Err(Refusal { reason: "Invalid", message: format!("TLS version {text:?} is unknown") }),
    })
}

fn client_certificate(
    inputs: &Inputs<'_>,
    object: &ObjectRef,
    reference: &controller_api::backend_ref::SecretRef,
) -> Result<Certificate, Refusal> {
    let namespace = reference.namespace.as_deref().unwrap_or(&object.namespace);
    let name = &reference.name;
    let invalid = |cause: &str| Refusal {
        reason: "InvalidClientCertificateRef",
        message: format!("failed to locate TLS secret for client auth: {namespace}/{name} {cause}"),
    };
    // A private key of another namespace is not for everyone who can write a Backend.
    if namespace != object.namespace {
        return Err(invalid("is in another namespace than the Backend"));
    }
    let secret = inputs.snapshot.secrets.get(&(namespace.to_owned(), name.clone()));
    let data = secret.and_then(|secret| secret.data.as_ref()).ok_or_else(|| invalid("does not exist"))?;
    let part = |key: &str| data.get(key).map(|bytes| bytes.0.clone());
    let (Some(chain), Some(key)) = (part("tls.crt"), part("tls.key")) else {
        return Err(invalid("lacks tls.crt or tls.key"));
    };
    tls::check_pair(&chain, &key).map_err(|cause| invalid(&format!("is no pair: {cause}")))?;
    Ok(Certificate { name: format!("{namespace}/{name}"), chain, key })
}
