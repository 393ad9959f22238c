//! Rules on what is known about a request.

use controller_api::{
    rate_limit::PathMatchType,
    security_policy::{
        authorization::{Authorization, AuthorizationRule, JwtPrincipal, Principal},
        jwt::Jwt,
    },
};
use ipnet::IpNet;

use crate::{cel, translate::re2};

/// Adds what is wrong to `errors`.
pub(super) fn check(authorization: &Authorization, jwt: Option<&Jwt>, errors: &mut Vec<String>) {
    for (index, rule) in authorization.rules.iter().enumerate() {
        let mut found = Vec::new();
        check_rule(rule, jwt, &mut found);
        errors
            .extend(found.into_iter().map(|error| format!("Authorization: spec.authorization.rules[{index}].{error}")));
    }
}

fn check_rule(rule: &AuthorizationRule, jwt: Option<&Jwt>, errors: &mut Vec<String>) {
    if let Some(expression) = &rule.cel
        && let Err(error) = cel::parse(expression)
    {
        errors.push(format!("cel {error}"));
    }
    match &rule.principal {
        Some(principal) => check_principal(principal, jwt, errors),
        None if rule.cel.is_none() => errors.push("principal or cel must be set".into()),
        None => {}
    }
    let Some(operation) = &rule.operation else { return };
    if operation.methods.is_empty() && operation.path.is_none() {
        errors.push("operation must have methods or a path".into());
    }
    let Some(path) = &operation.path else { return };
    if path.kind == Some(PathMatchType::RegularExpression)
        && let Err(error) = re2::check(&path.value)
    {
        errors.push(format!("operation.path.value: {error}"));
    }
}

fn check_principal(principal: &Principal, jwt: Option<&Jwt>, errors: &mut Vec<String>) {
    if !principal.client_ip_geo_locations.is_empty() {
        errors
            .push("principal.clientIPGeoLocations is not supported: it needs a database of addresses in Envoy".into());
    } else if *principal == Principal::default() {
        errors.push("principal must have at least one of clientCIDRs, jwt and headers".into());
    }
    for cidr in principal.client_cidrs.iter().filter(|cidr| cidr.parse::<IpNet>().is_err()) {
        errors.push(format!("principal.clientCIDRs: {cidr:?} is no CIDR, expected one such as 10.0.0.0/8"));
    }
    for header in &principal.headers {
        if header.name.is_empty() || header.values.is_empty() {
            errors.push("principal.headers must have a name and values".into());
        }
    }
    if let Some(token) = &principal.jwt {
        check_jwt(token, jwt, errors);
    }
}

fn check_jwt(token: &JwtPrincipal, jwt: Option<&Jwt>, errors: &mut Vec<String>) {
    if token.claims.is_empty() && token.scopes.is_empty() {
        errors.push("principal.jwt must have claims or scopes".into());
    }
    if token.claims.iter().any(|claim| claim.name.is_empty() || claim.values.is_empty()) {
        errors.push("principal.jwt.claims must have a name and values".into());
    }
    match jwt {
        None => errors.push("principal.jwt needs spec.jwt".into()),
        Some(jwt) if !jwt.providers.iter().any(|provider| provider.name == token.provider) => {
            errors.push(format!("principal.jwt.provider {:?} is none of spec.jwt.providers", token.provider));
        }
        Some(_) => {}
    }
}
