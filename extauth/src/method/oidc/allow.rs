//! Which of a provider's users may come in.

use proto::extauth::Allow;
use serde_json::Value;

use crate::claims::Lookup;
use crate::method::Invalid;

/// Users that may come in.
#[derive(Debug)]
pub(super) struct Users {
    domains: Option<Vec<String>>,
    groups: Option<Vec<String>>,
    claim: String,
}

impl Users {
    /// Checks the configuration: a rule that could admit by accident, or nobody, is a mistake.
    pub(super) fn compile(config: &Allow) -> Result<Self, Invalid> {
        for (field, list) in [("allow.emailDomains", &config.email_domains), ("allow.groups", &config.groups)] {
            if let Some(list) = list
                && (list.is_empty() || list.iter().any(String::is_empty))
            {
                return Err(Invalid::new(field, "must name at least one, and no empty one"));
            }
        }
        if config.groups_claim.is_some() && config.groups.is_none() {
            return Err(Invalid::new("allow.groupsClaim", "has no effect without `groups`"));
        }
        let domains = config.email_domains.as_ref().map(|domains| {
            domains.iter().map(|domain| domain.trim_start_matches('@').to_ascii_lowercase()).collect::<Vec<_>>()
        });
        if domains.iter().flatten().any(|domain| !plain(domain)) {
            return Err(Invalid::new("allow.emailDomains", "has a domain that is none, such as one with a `*`"));
        }
        let claim = config.groups_claim.clone().unwrap_or_else(|| "groups".to_owned());
        Ok(Self { domains, groups: config.groups.clone(), claim })
    }

    /// Whether the user with these claims may come in; the error says what is missing.
    pub(super) fn admit(&self, user: &impl Lookup) -> Result<(), &'static str> {
        if let Some(domains) = &self.domains
            && !domain(user).is_some_and(|domain| domains.contains(&domain))
        {
            return Err("the user's e-mail address is in no allowed domain");
        }
        if let Some(groups) = &self.groups
            && !self.is_in(user, groups)
        {
            return Err("the user is in no allowed group");
        }
        Ok(())
    }

    fn is_in(&self, user: &impl Lookup, allowed: &[String]) -> bool {
        let named = |value: &Value| value.as_str().is_some_and(|group| allowed.iter().any(|allowed| allowed == group));
        match user.find(&self.claim).as_deref() {
            Some(Value::Array(groups)) => groups.iter().any(named),
            Some(group) => named(group),
            None => false,
        }
    }
}

/// Domain of the user's address, when the provider has verified it and it is a plain one: one `@`, ASCII, nothing quoted.
fn domain(user: &impl Lookup) -> Option<String> {
    let verified = user.find("email_verified").is_some_and(|value| *value == Value::Bool(true));
    let email = user.find("email")?;
    let (local, domain) = email.as_str().filter(|_| verified)?.split_once('@')?;
    let legal = |byte: u8| byte.is_ascii_graphic() && !b"\"(),:;<>@[\\]".contains(&byte);
    let domain = domain.to_ascii_lowercase();
    (!local.is_empty() && local.bytes().all(legal) && plain(&domain)).then_some(domain)
}

fn plain(domain: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
    domain.contains('.') && domain.split('.').all(|label| !label.is_empty()) && domain.bytes().all(legal)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    fn admits(allow: &Allow, user: Value) -> bool {
        let Value::Object(user) = user else { panic!("claims are an object") };
        Users::compile(allow).unwrap().admit(&user).is_ok()
    }

    #[test]
    fn ghsa_c5c4_only_a_plain_verified_address_has_a_domain() {
        let allow = Allow { email_domains: Some(vec!["corp.com".to_owned()]), ..Allow::default() };
        let email = |email: &str| admits(&allow, json!({"email": email, "email_verified": true}));
        assert!(email("ada@corp.com") && email("ada@CORP.com") && email("ada+x@corp.com"));
        for bad in [
            "a@evil.com@corp.com",
            "a@corp.com@evil.com",
            "a@corp.com\n",
            "\"a@corp.com\"@evil.com",
            "\"x\"@corp.com",
            "a@evilcorp.com",
            "a@corp.com.evil.com",
            "a@sub.corp.com",
            "@corp.com",
            "corp.com",
            "a@",
            "",
            "a@corp\u{ff0e}com",
            "a@co\u{440}p.com",
            " a@corp.com",
            "a b@corp.com",
            "a@corp.com ",
            "a@corp.com\0",
            "<a@evil.com>a@corp.com",
        ] {
            assert!(!email(bad), "{bad:?}");
        }
        for user in [
            json!({"email": "ada@corp.com"}),
            json!({"email": "ada@corp.com", "email_verified": false}),
            json!({"email": "ada@corp.com", "email_verified": "true"}),
            json!({"email": ["ada@corp.com"], "email_verified": true}),
            json!({}),
        ] {
            assert!(!admits(&allow, user.clone()), "{user}");
        }
    }

    #[test]
    fn a_user_needs_one_of_the_groups() {
        let groups = |groups: &[&str]| Some(groups.iter().map(|group| (*group).to_owned()).collect::<Vec<_>>());
        let allow = Allow { groups: groups(&["dev", "ops"]), ..Allow::default() };
        assert!(admits(&allow, json!({"groups": ["sales", "ops"]})) && admits(&allow, json!({"groups": "dev"})));
        for user in [json!({"groups": ["sales"]}), json!({"groups": [""]}), json!({"groups": "dev,ops"}), json!({})] {
            assert!(!admits(&allow, user.clone()), "{user}");
        }
        let nested = Allow { groups_claim: Some("realm_access.roles".to_owned()), ..allow };
        assert!(admits(&nested, json!({"realm_access": {"roles": ["dev"]}})));
        assert!(!admits(&nested, json!({"groups": ["dev"]})));
    }

    #[test]
    fn a_rule_that_names_nobody_or_everybody_is_refused() {
        for bad in [
            Allow { groups: Some(vec![String::new()]), ..Allow::default() },
            Allow { groups: Some(Vec::new()), ..Allow::default() },
            Allow { email_domains: Some(vec!["*".to_owned()]), ..Allow::default() },
            Allow { email_domains: Some(Vec::new()), ..Allow::default() },
            Allow { groups_claim: Some("roles".to_owned()), ..Allow::default() },
        ] {
            assert!(Users::compile(&bad).is_err(), "{bad:?}");
        }
    }
}
