//! `SecurityPolicy`: merged, checked, its references followed, ready for a route.

mod api_key_auth;
mod authorization;
mod cors;
mod ext_auth;
mod jwt;
mod layers;

use std::{collections::BTreeMap, sync::Arc};

use controller_api::{
    policy::PolicyTargets,
    security_policy::{SecurityPolicy, SecurityPolicySpec},
};

use self::layers::Layers;
use super::kind::{self, Named, Parent, Resolution};
use crate::{
    Snapshot,
    ir::{HttpRoute, Security},
    snapshot::Objects,
    translate::inputs::Inputs,
};

/// The kind `SecurityPolicy`.
pub(super) struct Kind<'i, 's> {
    pub(super) inputs: &'i Inputs<'s>,
    /// What `extauth` must serve, by name.
    pub(super) auth_policies: BTreeMap<String, proto::extauth::Policy>,
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
        fields
    }

    fn ignored(_: &SecurityPolicySpec) -> Vec<&str> {
        Vec::new()
    }

    fn resolve(
        &mut self,
        policy: Named<'_, SecurityPolicySpec>,
        parent: Option<Parent<'_, SecurityPolicySpec>>,
    ) -> Resolution<Security> {
        let (layers, mut spec) = match layers::effective(policy, parent) {
            Ok(effective) => effective,
            Err(message) => return Resolution { effective: None, errors: vec![message] },
        };
        let unsupported = spec.unsupported.keys();
        let mut errors: Vec<_> =
            unsupported.map(|field| format!("the field spec.{field} is not supported yet")).collect();
        if let Some(cors) = &spec.cors {
            cors::check(cors, &mut errors);
        }
        if let Some(authorization) = &spec.authorization {
            authorization::check(authorization, spec.jwt.as_ref(), &mut errors);
        }
        let jwks = match &spec.jwt {
            Some(jwt) => jwt::resolve(jwt, self.inputs, layers, &mut errors),
            None => Vec::new(),
        };
        let auth_policy = match &spec.api_key_auth {
            Some(api_key_auth) => {
                api_key_auth::resolve(api_key_auth, self.inputs, layers).map_err(|error| errors.push(error)).ok()
            }
            None => None,
        };
        let auth_policy_name = auth_policy.as_ref().map(|policy| policy.name.clone());
        let mut ext_auth = None;
        let mut tolerated = Vec::new();
        if let Some(settings) = &spec.ext_auth {
            match ext_auth::resolve(settings, self.inputs, layers) {
                Ok(resolved) => ext_auth = Some(resolved),
                Err(error) if error.unsupported || settings.fail_open != Some(true) => errors.push(error.message),
                Err(error) => tolerated.push(error.message),
            }
        }
        if ext_auth.is_none() {
            spec.ext_auth = None;
        }
        if let Some(auth_policy) = auth_policy.filter(|_| errors.is_empty()) {
            self.auth_policies.insert(auth_policy.name.clone(), auth_policy);
        }
        let effective = Security { policy: policy.object.clone(), spec, jwks, ext_auth, auth_policy: auth_policy_name };
        let mut resolution = Resolution::strict(effective, errors);
        resolution.errors.extend(tolerated);
        resolution
    }

    fn slot(route: &mut HttpRoute) -> &mut Option<Arc<Security>> {
        &mut route.security
    }
}
