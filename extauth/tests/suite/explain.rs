//! What people are told about a decision.

use std::fs;

use extauth::explain::Question;
use extauth::policy::Policies;
use proto::extauth::Policies as File;
use serde_json::{Value, json};

use crate::rules::policy;
use crate::support::{program, resources, wait};

fn rules() -> Value {
    json!([
        {"name": "no-admin", "action": "deny", "when": {"paths": [{"prefix": "/admin"}]}, "unless": {"tiers": ["gold"]}},
        {"name": "acme", "action": "allow", "when": {"clients": ["acme"], "methods": ["GET"]}},
    ])
}

fn explain(question: Value) -> Value {
    let policies = Policies::compile(&[policy(&rules(), None)], &resources()).unwrap();
    let question: Question = serde_json::from_value(question).unwrap();
    serde_json::to_value(wait(question.ask(&policies)).unwrap()).unwrap()
}

fn outcomes(steps: &Value) -> Vec<&str> {
    steps.as_array().unwrap().iter().map(|step| step["outcome"].as_str().unwrap()).collect()
}

#[test]
fn every_method_and_every_rule_says_why() {
    let known =
        explain(json!({"policy": "guard", "path": "/admin", "headers": ["X-Api-Key: a-key", "x_client: root"]}));
    assert_eq!((&known["policy"], &known["found_by"]), (&json!("guard"), &json!("the context extension `policy`")));
    assert_eq!(outcomes(&known["methods"]), ["lets it in as `acme`"]);
    let expected = ["does not fit: what stands under `unless` holds", "fits, and would allow it"];
    assert_eq!(outcomes(&known["rules"]), expected);
    assert_eq!((&known["answer"]["status"], &known["answer"]["set"]), (&json!(200), &json!(["x-client: acme"])));
    assert_eq!(known["answer"]["removed"], json!(["x-api-key", "x_client"]));

    let other = explain(json!({"policy": "guard", "path": "/admin", "headers": ["x-api-key: b-key"]}));
    assert_eq!(outcomes(&other["rules"]), ["fits, and would deny it", "does not fit: `clients` does not hold"]);
    assert_eq!(
        (&other["answer"]["status"], &other["answer"]["reason"]),
        (&json!(403), &json!("the rule `no-admin` denies it"))
    );

    let nobody = explain(json!({"policy": "guard", "path": "//admin"}));
    assert_eq!(outcomes(&nobody["methods"]), ["the request has no such credential", "lets it in"]);
    assert_eq!(outcomes(&nobody["rules"]), ["cannot be decided: the path has dot or empty segments"]);
    assert_eq!(nobody["answer"]["status"], 401);

    let wrong = explain(json!({"policy": "guard", "headers": ["x-api-key: wrong"]}));
    assert!(outcomes(&wrong["methods"])[0].starts_with("denies: "), "{wrong}");
    assert_eq!((&wrong["answer"]["status"], wrong["rules"].as_array().unwrap().len()), (&json!(401), 0));
    let unknown = explain(json!({"host": "shop.example.com"}));
    assert_eq!((&unknown["policy"], &unknown["answer"]["status"]), (&Value::Null, &json!(403)));
}

#[test]
fn the_program_explains_on_the_command_line() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("policies")).unwrap();
    let file = File { policies: vec![policy(&rules(), None)] };
    fs::write(dir.path().join("policies/guard.yaml"), serde_json::to_string(&file).unwrap()).unwrap();
    let explain = |arguments: &[&str]| {
        let output = program(dir.path()).arg("explain").args(arguments).output().unwrap();
        (
            output.status.success(),
            String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap(),
        )
    };
    let (success, said) = explain(&["--policy", "guard", "--path", "/x", "--header", "x-api-key: a-key"]);
    assert!(success && said.contains("rule     acme: fits, and would allow it\nanswer   200: it may pass\n"), "{said}");
    assert!(!said.contains("a-key"), "{said}");
    let (success, said) = explain(&["--header", "nonsense"]);
    assert!(!success && said.contains("say a header as NAME: VALUE"), "{said}");
}
