//! Requests that another site makes a browser send.

use controller_api::security_policy::csrf::Csrf;

/// Adds what is wrong to `errors`.
pub(super) fn check(csrf: &Csrf, errors: &mut Vec<String>) {
    if let Some(fraction) = csrf.shadow_fraction
        && (fraction.denominator == Some(0) || fraction.numerator > fraction.denominator.unwrap_or(100))
    {
        errors.push("CSRF: spec.csrf.shadowFraction must be at most one".into());
    }
    for (index, origin) in csrf.additional_origins.iter().enumerate() {
        if origin.split_once("://").map_or(origin.as_str(), |(_, host)| host).is_empty() {
            errors.push(format!(
                "CSRF: spec.csrf.additionalOrigins[{index}] {origin:?} is no origin, expected one such as \
                 https://*.example.com, or *"
            ));
        }
    }
}
