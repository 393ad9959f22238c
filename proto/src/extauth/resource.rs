//! A policy as a resource of xDS, by which the controller hands it to `extauth`.

use std::fmt;

use prost::{Message, Name};

use super::Policy;

/// `tollgate.extauth.v1.AuthPolicy`. It holds secrets, and is for `extauth` only.
#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
pub struct AuthPolicy {
    /// Name of the policy, and of the resource.
    #[prost(string, tag = "1")]
    pub name: String,
    /// The [`Policy`] as JSON, complete in itself: what it needs stands in it and not in files.
    #[prost(string, tag = "2")]
    pub json: String,
}

impl Name for AuthPolicy {
    const NAME: &'static str = "AuthPolicy";
    const PACKAGE: &'static str = "tollgate.extauth.v1";
    fn type_url() -> String {
        Self::TYPE_URL.to_owned()
    }
}

impl AuthPolicy {
    /// The `type_url` of discovery requests and of `Any`.
    pub const TYPE_URL: &'static str = "type.googleapis.com/tollgate.extauth.v1.AuthPolicy";

    /// Packs a policy.
    pub fn of(policy: &Policy) -> Result<Self, serde_json::Error> {
        Ok(Self { name: policy.name.clone(), json: serde_json::to_string(policy)? })
    }
}

/// Leaves out the policy, which may hold secrets.
impl fmt::Debug for AuthPolicy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("AuthPolicy").field("name", &self.name).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::extauth::{Basic, Method, Secret};

    #[test]
    fn a_policy_comes_back_with_its_secrets_and_no_log_shows_them() {
        let basic = Basic { htpasswd: Some(Secret::new("ann:s3cret")), ..Basic::default() };
        let policy = Policy { name: "a".into(), methods: vec![Method::Basic(basic)], ..Policy::default() };
        let message = AuthPolicy::of(&policy).unwrap();
        let read = AuthPolicy::decode(message.encode_to_vec().as_slice()).unwrap();
        assert_eq!(read.name, "a");
        assert_eq!(serde_json::from_str::<Policy>(&read.json).unwrap(), policy);
        assert!(!format!("{message:?}").contains("s3cret"));
    }

    #[test]
    fn its_name_and_its_url_agree() {
        assert_eq!(AuthPolicy::TYPE_URL, format!("type.googleapis.com/{}", AuthPolicy::full_name()));
    }
}
