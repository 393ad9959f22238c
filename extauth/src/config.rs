//! Policies as they are written: YAML files of one directory, with the key files and key sets that lie beside them.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use proto::extauth::{Key, Method, Policy, Secret};
use serde::Deserialize;
use serde_saphyr::{DefaultMessageFormatter, Location, MessageFormatter as _, Spanned};

use crate::method::api_key::{Hash, LONGEST_KEY};
use crate::policy;

/// Text of the files of one directory by name; those of directories in it are called `directory/file`.
pub type Files = BTreeMap<String, String>;

/// Something in a file is wrong; nothing of the configuration is used then.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// The directory holds no policy file. To serve no policy at all, write one with `policies: []`.
    #[error("no file ends in .yaml or .yml")]
    #[diagnostic(help("put a file with `policies:` there; `policies: []` says that there are none"))]
    NoFile,
    /// A value is not what it should be.
    #[error("{place}: {field}: {problem}")]
    #[diagnostic(help("the fields are described in extauth/README.md"))]
    Field {
        /// File, line and column.
        place: Place,
        /// Path of the field, such as `policies[0].methods[1].jwt.jwks`.
        field: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// Where something is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// File name.
    pub file: String,
    /// Line, from 1; 0 when unknown.
    pub line: u64,
    /// Column, from 1; 0 when unknown.
    pub column: u64,
}

/// The policies of one directory, complete in themselves.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// In the order of the files' names and of their place in the file.
    pub policies: Vec<Policy>,
    places: Vec<(Place, usize)>,
}

/// The root of a file. Key files end in `.yaml` as well, so that either may lie in the directory.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    policies: Vec<Spanned<Policy>>,
    #[serde(default)]
    keys: Vec<Key>,
}

impl Config {
    /// Reads the policies of a directory's files. Keys and key sets in other files take their place in the policy.
    pub fn parse(files: &Files) -> Result<Self, Error> {
        let mut documents = BTreeMap::new();
        for (name, text) in files.iter().filter(|(name, _)| is_yaml(name) && !name.contains('/')) {
            documents.insert(name.as_str(), document(name, text)?);
        }
        if documents.is_empty() {
            return Err(Error::NoFile);
        }
        let mut config = Self::default();
        for (name, document) in &documents {
            for (index, spanned) in document.policies.iter().enumerate() {
                let place = Place::at(name, Some(spanned.referenced));
                let mut policy = spanned.value.clone();
                include(&mut policy, files, &documents)
                    .map_err(|(field, problem)| place.clone().error(index, &field, problem))?;
                config.policies.push(policy);
                config.places.push((place, index));
            }
        }
        Ok(config)
    }

    /// Says where the policy stands that did not compile.
    pub fn locate(&self, error: &policy::Error) -> Error {
        let (place, index) =
            self.places.get(error.index).cloned().unwrap_or_else(|| (Place::at("", None), error.index));
        place.error(index, &error.source.field, format!("{} (policy `{}`)", error.source.problem, error.policy))
    }
}

impl Place {
    fn at(file: &str, location: Option<Location>) -> Self {
        let (line, column) = location.map_or((0, 0), |location| (location.line(), location.column()));
        Self { file: file.to_owned(), line, column }
    }

    fn error(self, index: usize, field: &str, problem: String) -> Error {
        Error::Field { place: self, field: format!("policies[{index}].{field}"), problem }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}:{}", self.file, self.line, self.column)
    }
}

fn is_yaml(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|extension| extension == "yaml" || extension == "yml")
}

fn document(name: &str, text: &str) -> Result<Document, Error> {
    // A file that is about to be written is no wish to be without policies.
    if text.trim().is_empty() {
        let problem = "the file is empty; say `policies: []` if it is to hold none".to_owned();
        return Err(Error::Field { place: Place::at(name, None), field: String::new(), problem });
    }
    // A key takes about ten nodes: room for a million of them.
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_nodes: 10_000_000, max_events: 20_000_000, max_total_scalar_bytes: 256 << 20 },
        with_snippet: false,
    };
    let mut field = String::new();
    let parsed = serde_saphyr::with_deserializer_from_str_with_options(text, options, |deserializer| {
        serde_path_to_error::deserialize(deserializer).map_err(|error| {
            // The wrapper that knows the policy's place is no field that a person wrote.
            field = error.path().to_string().replacen("].value.", "].", 1);
            error.into_inner()
        })
    });
    parsed.map_err(|error| {
        let problem = DefaultMessageFormatter.format_message(&error).replace(char::is_control, " ");
        Error::Field { place: Place::at(name, error.location()), field, problem }
    })
}

/// Puts what other files hold into the policy; the error names the field.
fn include(policy: &mut Policy, files: &Files, documents: &BTreeMap<&str, Document>) -> Result<(), (String, String)> {
    let missing = |file: &str| format!("there is no file `{file}` beside this one");
    for (index, method) in policy.methods.iter_mut().enumerate() {
        match method {
            Method::ApiKey(method) => {
                if let Some(file) = method.keys_file.take() {
                    let field = format!("methods[{index}].apiKey.keysFile");
                    let document = documents.get(file.as_str()).ok_or_else(|| (field, missing(&file)))?;
                    method.keys.extend(document.keys.iter().cloned());
                }
                if let Some(dir) = method.keys_dir.take() {
                    let field = format!("methods[{index}].apiKey.keysDir");
                    method.keys.extend(keys(&dir, files).map_err(|problem| (field, problem))?);
                }
            }
            Method::Basic(method) => {
                if let Some(file) = method.htpasswd_file.take() {
                    let field = format!("methods[{index}].basic.htpasswdFile");
                    if method.htpasswd.is_some() {
                        return Err((field, "`htpasswd` is set as well; one of the two must go".to_owned()));
                    }
                    let text = files.get(&file).ok_or_else(|| (field, missing(&file)))?;
                    method.htpasswd = Some(Secret::new(text.as_str()));
                }
            }
            Method::Jwt(method) => {
                if let Some(file) = method.jwks_file.take() {
                    let field = format!("methods[{index}].jwt.jwksFile");
                    if method.jwks.is_some() || method.jwks_uri.is_some() {
                        let other = if method.jwks.is_some() { "jwks" } else { "jwksUri" };
                        return Err((field, format!("`{other}` is set as well; one of the two must go")));
                    }
                    method.jwks = Some(files.get(&file).ok_or_else(|| (field, missing(&file)))?.clone());
                }
            }
            Method::Oidc(method) => {
                if let Some(file) = method.sealing_keys_file.take() {
                    let field = format!("methods[{index}].oidc.sealingKeysFile");
                    if method.sealing_keys.is_some() {
                        return Err((field, "`sealingKeys` is set as well; one of the two must go".to_owned()));
                    }
                    let text = files.get(&file).ok_or_else(|| (field, missing(&file)))?;
                    method.sealing_keys = Some(Secret::new(text.as_str()));
                }
                for (provider, place) in method.providers.iter_mut().zip(0..) {
                    let secrets = [
                        ("clientSecret", &mut provider.client_secret, provider.client_secret_file.take()),
                        ("clientKey", &mut provider.client_key, provider.client_key_file.take()),
                    ];
                    for (name, secret, file) in secrets {
                        let Some(file) = file else { continue };
                        let field = format!("methods[{index}].oidc.providers[{place}].{name}File");
                        if secret.is_some() {
                            return Err((field, format!("`{name}` is set as well; one of the two must go")));
                        }
                        let text = files.get(&file).ok_or_else(|| (field, missing(&file)))?;
                        *secret = Some(Secret::new(text.trim_end_matches(['\r', '\n'])));
                    }
                }
            }
            Method::Introspection(method) => {
                if let Some(file) = method.client_secret_file.take() {
                    let field = format!("methods[{index}].introspection.clientSecretFile");
                    if method.client_secret.is_some() {
                        return Err((field, "`clientSecret` is set as well; one of the two must go".to_owned()));
                    }
                    let secret = files.get(&file).ok_or_else(|| (field, missing(&file)))?;
                    method.client_secret = Some(Secret::new(secret.trim_end_matches(['\r', '\n'])));
                }
            }
            Method::ClientCertificate(method) => {
                if let Some(file) = method.ca_file.take() {
                    let field = format!("methods[{index}].clientCertificate.caFile");
                    if method.ca.is_some() {
                        return Err((field, "`ca` is set as well; one of the two must go".to_owned()));
                    }
                    method.ca = Some(files.get(&file).ok_or_else(|| (field, missing(&file)))?.clone());
                }
            }
            Method::Kubernetes(_) => {}
        }
    }
    Ok(())
}

/// The keys of a mounted Secret: a file for each client. Their texts are hashed at once.
fn keys(dir: &str, files: &Files) -> Result<Vec<Key>, String> {
    let prefix = format!("{dir}/");
    let clients = files.iter().filter_map(|(name, key)| Some((name.strip_prefix(&prefix)?, key)));
    let keys = clients.filter(|(client, _)| !client.starts_with('.')).map(|(client, key)| {
        // A line feed at the end is what `echo` left there: no header can carry it.
        let hash = Hash::of(key.trim_ascii_end(), None).ok_or_else(|| {
            format!("the key of client `{client}` is not 1 to {LONGEST_KEY} visible ASCII characters without a comma")
        })?;
        Ok(Key { hash: hash.to_string(), client: client.to_owned(), ..Key::default() })
    });
    let keys = keys.collect::<Result<Vec<_>, String>>()?;
    if keys.is_empty() { Err(format!("there is no directory `{dir}` with keys beside this file")) } else { Ok(keys) }
}
