use serde::de::DeserializeOwned;
use serde_json::Value;

/// Reads `value` as the spec of a policy, or says where and why that failed.
pub(crate) fn read<T>(
    value: &Value,
    deserialize: impl FnOnce(serde_path_to_error::Deserializer<'_, '_, &Value>) -> Result<T, serde_json::Error>,
) -> Result<T, String> {
    let mut track = serde_path_to_error::Track::new();
    let deserializer = serde_path_to_error::Deserializer::new(value, &mut track);
    deserialize(deserializer).map_err(|error| match track.path().to_string().trim_matches('.') {
        "" => format!("spec: {error}"),
        path => format!("spec.{path}: {error}"),
    })
}

/// What a policy applies to, of a spec that could not be read as a whole.
pub(crate) fn targets<T: DeserializeOwned>(value: &Value) -> Result<T, serde_json::Error> {
    T::deserialize(value)
}

/// Implements serde's traits for the spec of a policy, which derives them with `remote = "Self"`.
///
/// A policy with a field that cannot be read still exists: were it dropped, the routes it guards would fall open. Its
/// `malformed` says what is wrong, only its targets are set, and the translation answers for it.
macro_rules! lenient_spec {
    ($spec:ident) => {
        impl<'de> serde::Deserialize<'de> for $spec {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let mut value = serde_json::Value::deserialize(deserializer)?;
                if let Some(fields) = value.as_object_mut() {
                    // A field without a value is one that is not there, as it is for the API server.
                    fields.retain(|_, field| !field.is_null());
                }
                match $crate::lenient::read(&value, |deserializer| Self::deserialize(deserializer)) {
                    Ok(spec) => Ok(spec),
                    Err(malformed) => Ok(Self {
                        targets: $crate::lenient::targets(&value).map_err(|_| serde::de::Error::custom(&malformed))?,
                        malformed: Some(malformed),
                        ..Self::default()
                    }),
                }
            }
        }

        impl serde::Serialize for $spec {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                Self::serialize(self, serializer)
            }
        }
    };
}

pub(crate) use lenient_spec;
