//! Label selectors (`matchLabels`, `matchExpressions`).

use std::collections::BTreeMap;

/// A selector whose requirements all hold together; without any it selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Selector(Vec<Requirement>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Requirement {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    DoesNotExist(String),
}

impl Selector {
    /// Reads `matchLabels` and `matchExpressions`, the latter as key, operator and values.
    ///
    /// The error is a sentence without its full stop.
    pub(super) fn new<'a>(
        labels: Option<&BTreeMap<String, String>>,
        expressions: impl IntoIterator<Item = (&'a str, &'a str, &'a [String])>,
    ) -> Result<Self, String> {
        let equal = |(key, value): (&String, &String)| Requirement::In(key.clone(), vec![value.clone()]);
        let mut requirements: Vec<Requirement> = labels.into_iter().flatten().map(equal).collect();
        for (key, operator, values) in expressions {
            let (key, values) = (key.to_owned(), values.to_vec());
            let takes_values = matches!(operator, "In" | "NotIn");
            if takes_values && values.is_empty() {
                return Err("values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty".into());
            }
            if !takes_values && !values.is_empty() {
                return Err(format!(
                    "values: Invalid value: {values:?}: values set must be empty for exists and does not exist"
                ));
            }
            requirements.push(match operator {
                "In" => Requirement::In(key, values),
                "NotIn" => Requirement::NotIn(key, values),
                "Exists" => Requirement::Exists(key),
                "DoesNotExist" => Requirement::DoesNotExist(key),
                other => return Err(format!("{other:?} is not a valid label selector operator")),
            });
        }
        Ok(Self(requirements))
    }

    /// Whether an object with these labels is selected.
    pub(super) fn matches(&self, labels: Option<&BTreeMap<String, String>>) -> bool {
        let value = |key: &String| labels.and_then(|labels| labels.get(key));
        self.0.iter().all(|requirement| match requirement {
            Requirement::In(key, values) => value(key).is_some_and(|value| values.contains(value)),
            Requirement::NotIn(key, values) => value(key).is_none_or(|value| !values.contains(value)),
            Requirement::Exists(key) => value(key).is_some(),
            Requirement::DoesNotExist(key) => value(key).is_none(),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn every_operator_means_what_kubernetes_says() {
        let labels = BTreeMap::from([("env".to_owned(), "prod".to_owned())]);
        let prod = ["prod".to_owned()];
        let selects = |key, operator, values: &[String]| {
            Selector::new(None, [(key, operator, values)]).unwrap().matches(Some(&labels))
        };
        assert!(selects("env", "In", &prod));
        assert!(!selects("tier", "In", &prod));
        assert!(!selects("env", "NotIn", &prod));
        assert!(selects("tier", "NotIn", &prod));
        assert!(selects("env", "Exists", &[]));
        assert!(selects("tier", "DoesNotExist", &[]));
        assert!(!Selector::new(Some(&labels), []).unwrap().matches(None));
        assert!(Selector::default().matches(None));
    }

    #[test]
    fn values_and_operator_must_fit() {
        let values = ["bar".to_owned()];
        assert!(Selector::new(None, [("foo", "Exists", values.as_slice())]).unwrap_err().contains("must be empty"));
        assert!(Selector::new(None, [("foo", "In", [].as_slice())]).unwrap_err().contains("can't be empty"));
        assert!(Selector::new(None, [("foo", "Like", [].as_slice())]).is_err());
    }
}
