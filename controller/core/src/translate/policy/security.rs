//! `SecurityPolicy`: merged, checked, its references followed, ready for a route.

mod api_key_auth;
mod authorization;
mod basic_auth;
mod cors;
mod csrf;
mod destination;
mod ext_auth;
mod header;
mod ignored;
mod jwt;
mod layers;
mod oidc;
mod provider_settings;
mod secret;

use std::sync::Arc;

use controller_api::{
    backend_ref::BackendRef,
    policy::PolicyTargets,
    security_policy::{SecurityPolicy, SecurityPolicySpec},
};

use self::layers::Layers;
use super::{
    in_force::InForce,
    kind::{self, Named, Parent, Resolution},
};
use crate::{
    Snapshot,
    ir::{ObjectRef, Security},
    snapshot::Objects,
    translate::inputs::Inputs,
};

/// The kind `SecurityPolicy`.
pub(super) struct Kind<'i, 's> {
    pub(super) inputs: &'i Inputs<'s>,
}

/// The backends that a policy refers to, each with the policy that does.
fn references(spec: &SecurityPolicySpec, layers: Layers<'_>) -> Vec<(ObjectRef, BackendRef)> {
    let mut found = Vec::new();
    let mut note = |owner: &ObjectRef, reference: &BackendRef| found.push((owner.clone(), reference.clone()));
    if let Some(jwt) = &spec.jwt {
        let (owner, references) = jwt::references(jwt, layers);
        for reference in references {
            note(owner, reference);
        }
    }
    let ext_auth = spec.ext_auth.as_ref().map(|auth| ext_auth::references(auth, layers));
    let oidc = spec.oidc.as_ref().map(|oidc| oidc::references(oidc, layers));
    for (owner, references) in ext_auth.into_iter().chain(oidc) {
        for reference in references {
            note(owner, reference);
        }
    }
    found
}

impl kind::Kind for Kind<'_, '_> {
    type Object = SecurityPolicy;
    type Spec = SecurityPolicySpec;
    type Effective = Security;

    const NAME: &'static str = "SecurityPolicy";
    const PLURAL: &'static str = "securityPolicies";
    const RULE_PLURAL: &'static str = "securityPolicies";

    fn objects(snapshot: &Snapshot) -> &Objects<SecurityPolicy> {
        &snapshot.security_policies
    }

    fn spec(object: &SecurityPolicy) -> &SecurityPolicySpec {
        &object.spec
    }

    fn targets(spec: &SecurityPolicySpec) -> &PolicyTargets {
        &spec.targets
    }

    fn deprecated(spec: &SecurityPolicySpec) -> Vec<(&'static str, &'static str)> {
        let grpc = spec.ext_auth.as_ref().and_then(|ext_auth| ext_auth.grpc.as_ref());
        let mut fields = Vec::new();
        if grpc.is_some_and(|grpc| grpc.backend_ref.is_some()) {
            fields.push(("spec.extAuth.grpc.backendRef", "spec.extAuth.grpc.backendRefs"));
        }
        let http = spec.ext_auth.as_ref().and_then(|ext_auth| ext_auth.http.as_ref());
        if http.is_some_and(|http| http.backend_ref.is_some()) {
            fields.push(("spec.extAuth.http.backendRef", "spec.extAuth.http.backendRefs"));
        }
        fields
    }

    fn ignored(spec: &SecurityPolicySpec) -> Vec<String> {
        ignored::fields(spec)
    }

    fn resolve(
        &self,
        policy: Named<'_, SecurityPolicySpec>,
        parent: Option<Parent<'_, SecurityPolicySpec>>,
    ) -> Resolution<Security> {
        let (layers, mut spec) = match layers::effective(policy, parent) {
            Ok(effective) => effective,
            Err(message) => return Resolution::broken(message),
        };
        let backend_refs = references(&spec, layers);
        let unsupported = spec.unsupported.keys();
        let mut errors: Vec<_> =
            unsupported.map(|field| format!("the field spec.{field} is not supported yet")).collect();
        if let Some(cors) = &spec.cors {
            cors::check(cors, &mut errors);
        }
        if let Some(csrf) = &spec.csrf {
            csrf::check(csrf, &mut errors);
        }
        if let Some(authorization) = &spec.authorization {
            authorization::check(authorization, spec.jwt.as_ref(), &mut errors);
        }
        let jwks = match &spec.jwt {
            Some(jwt) => jwt::resolve(jwt, self.inputs, layers, &mut errors),
            None => Vec::new(),
        };
        // One for each way of proving an identity: a request has to satisfy all of them.
        let api_keys = spec.api_key_auth.as_ref().map(|auth| api_key_auth::resolve(auth, self.inputs, layers));
        let tokens = spec.jwt.as_ref().map(|jwt| (jwt, jwks.as_slice()));
        let logins = spec.oidc.as_ref().map(|oidc| oidc::resolve(oidc, tokens, self.inputs, layers));
        let passwords = spec.basic_auth.as_ref().map(|auth| basic_auth::resolve(auth, self.inputs, layers));
        let served = api_keys.into_iter().chain(passwords).chain(logins);
        let served: Vec<_> = served.filter_map(|policy| policy.map_err(|error| errors.push(error)).ok()).collect();
        let auth_policies = served.iter().map(|policy| policy.name.clone()).collect();
        let mut ext_auth = None;
        let mut tolerated = Vec::new();
        if let Some(settings) = &spec.ext_auth {
            match ext_auth::resolve(settings, self.inputs, layers) {
                Ok(resolved) => ext_auth = Some(resolved),
                Err(error) if settings.fail_open == Some(true) => tolerated.push(error),
                Err(error) => errors.push(error),
            }
        }
        if ext_auth.is_none() {
            spec.ext_auth = None;
        }
        let back_channel_logout = spec.oidc.as_deref().map(oidc::back_channel_logout);
        let effective =
            Security { policy: policy.object.clone(), spec, jwks, ext_auth, auth_policies, back_channel_logout };
        let mut resolution = Resolution::strict(effective, errors);
        if resolution.effective.is_some() {
            resolution.auth_policies = served;
        }
        resolution.backend_refs = backend_refs;
        resolution.errors.extend(tolerated);
        resolution
    }

    fn slot(in_force: &mut InForce) -> &mut Option<Arc<Security>> {
        &mut in_force.security
    }
}
