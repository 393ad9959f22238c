//! Policies as files.

use extauth::config::{Config, Error, Files};
use extauth::policy::Policies;
use proto::extauth::{Key, Method};

use crate::support::{Issuer, resources};

fn files(files: &[(&str, &str)]) -> Files {
    files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
}

fn error(text: &str) -> String {
    match Config::parse(&files(&[("shop.yaml", text)])) {
        Ok(config) => config.locate(&Policies::compile(&config.policies, &resources()).unwrap_err()).to_string(),
        Err(error) => error.to_string(),
    }
}

const KEYS: &str = "\
policies:
  - name: shop
    methods:
      - apiKey:
          from:
            - header: {name: x-api-key}
            - query: {name: key}
            - cookie: {name: key}
          keysFile: shop-keys.yaml
          keys:
            - hash: sha256:0000000000000000000000000000000000000000000000000000000000000000
              client: zero
";

const MORE_KEYS: &str = "\
keys:
  - hash: sha256:1111111111111111111111111111111111111111111111111111111111111111
    client: one
    tier: gold
    labels: {team: blue}
";

const TOKENS: &str = "\
policies:
- name: tokens
  optional: true
  methods:
  - jwt:
      name: main
      audiences: [api]
      jwksFile: keys.json
";

#[test]
fn keys_and_key_sets_may_lie_in_files_of_their_own() {
    let issuer = Issuer::new("EdDSA");
    let tokens = format!("{TOKENS}      issuer: {}\n", crate::support::ISSUER);
    let all =
        files(&[("a.yaml", KEYS), ("shop-keys.yaml", MORE_KEYS), ("b.yml", &tokens), ("keys.json", &issuer.jwks())]);
    let config = Config::parse(&all).unwrap();
    assert_eq!(config.policies.iter().map(|policy| policy.name.as_str()).collect::<Vec<_>>(), ["shop", "tokens"]);
    let Method::ApiKey(keys) = &config.policies[0].methods[0] else { panic!("the first policy is for keys") };
    let clients: Vec<&Key> = keys.keys.iter().collect();
    assert_eq!((clients[0].client.as_str(), clients[1].client.as_str()), ("zero", "one"));
    assert_eq!(clients[1].labels["team"], "blue");
    let Method::Jwt(provider) = &config.policies[1].methods[0] else { panic!("the second is for tokens") };
    assert_eq!((provider.jwks.as_deref(), provider.leeway_seconds), (Some(issuer.jwks().as_str()), 60));
    Policies::compile(&config.policies, &resources()).unwrap();
}

#[test]
fn a_mistake_is_told_with_its_file_line_column_and_field() {
    let unknown = error(&KEYS.replace("keysFile: shop-keys.yaml", "forwarding: true"));
    assert!(unknown.starts_with("shop.yaml:9:11: policies[0].methods[0].apiKey.forwarding: "), "{unknown}");
    assert!(unknown.contains("unknown field `forwarding`"), "{unknown}");
    let syntax = error("policies: [");
    assert!(syntax.starts_with("shop.yaml:1:"), "{syntax}");
    let kind = error("policies:\n- name: shop\n  methods: 3\n");
    assert!(kind.starts_with("shop.yaml:3:12: policies[0].methods: "), "{kind}");
    let method = error("policies:\n- name: shop\n  methods:\n  - magic: {}\n");
    assert!(method.starts_with("shop.yaml:4:") && method.contains("magic") && method.contains("apiKey"), "{method}");
}

#[test]
fn a_policy_that_makes_no_sense_is_told_with_its_place() {
    let hash = error(&KEYS.replace("          keysFile: shop-keys.yaml\n", "").replace("sha256:00", "md5:00"));
    assert!(hash.starts_with("shop.yaml:2:5: policies[0].methods[0].apiKey.keys[0].hash: is not `sha256:`"), "{hash}");
    assert!(hash.ends_with("(policy `shop`)"), "{hash}");
    let second =
        error("policies:\n- name: a\n  methods: [{apiKey: {from: [{header: {name: k}}]}}]\n- name: b\n  methods: []\n");
    assert!(second.starts_with("shop.yaml:4:3: policies[1].methods: is empty"), "{second}");
}

#[test]
fn a_missing_file_is_told() {
    let missing = error(KEYS);
    assert_eq!(
        missing,
        "shop.yaml:2:5: policies[0].methods[0].apiKey.keysFile: there is no file `shop-keys.yaml` beside this one"
    );
    let outside = error(&KEYS.replace("shop-keys.yaml", "../../etc/passwd"));
    assert!(outside.contains("there is no file `../../etc/passwd` beside this one"), "{outside}");
}

#[test]
fn an_empty_directory_is_a_mistake_and_an_empty_list_is_not() {
    assert!(matches!(Config::parse(&Files::new()), Err(Error::NoFile)));
    assert!(matches!(Config::parse(&files(&[("readme.txt", "hello")])), Err(Error::NoFile)));
    assert!(Config::parse(&files(&[("none.yaml", "policies: []")])).unwrap().policies.is_empty());
}

#[test]
fn the_example_of_the_readme_is_valid() {
    let readme = include_str!("../../README.md");
    let block = |language: &str| {
        let (_, rest) = readme.split_once(&format!("```{language}\n")).unwrap();
        rest.split_once("```").unwrap().0.to_owned()
    };
    let issuer = Issuer::new("ES256");
    let all = files(&[
        ("example.yaml", &block("yaml")),
        ("issuer-jwks.json", &issuer.jwks()),
        ("shop-keys.yaml", MORE_KEYS),
        ("shop-keys/zeta", "the-key-of-zeta"),
    ]);
    let config = Config::parse(&all).unwrap();
    assert!(Policies::compile(&config.policies, &resources()).unwrap().len() >= 2);
}

#[test]
fn the_login_of_the_readme_is_valid() {
    let readme = include_str!("../../README.md");
    let (_, logins) = readme.split_once("## Logins\n").unwrap();
    let (_, rest) = logins.split_once("```yaml\n").unwrap();
    let policies = format!("policies:\n{}", rest.split_once("```").unwrap().0);
    let config = Config::parse(&files(&[("example.yaml", &policies), ("office-secret", "secret\n")])).unwrap();
    assert_eq!(Policies::compile(&config.policies, &resources()).unwrap().len(), 1);
}
