use std::sync::Arc;

use serde_json::{Value, json};

use super::*;

/// What the real server does to a Deployment on its way through its types: empty fields are dropped.
fn drop_zeros(object: &mut Value) {
    if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
        spec.retain(|key, value| !(key == "paused" && *value == json!(false)));
        spec.retain(|key, value| !(key == "minReadySeconds" && *value == json!(0)));
    }
}

fn deployment_update(username: &str, dry_run: bool) -> AdmissionRequest {
    AdmissionRequest {
        operation: "UPDATE".into(),
        username: username.into(),
        dry_run,
        group: "apps".into(),
        version: "v1".into(),
        resource: "deployments".into(),
        kind: "Deployment".into(),
        namespace: "default".into(),
        name: "web".into(),
        ..AdmissionRequest::default()
    }
}

#[test]
fn every_write_to_a_gated_deployment_comes_back_as_the_real_server_returned_it() {
    let recorded: Value =
        serde_json::from_str(include_str!("../../../tests/data/cel/gate_policy.json")).unwrap();
    let policies = [Arc::new(recorded["policy"].clone())];
    let bindings = [Arc::new(recorded["binding"].clone())];
    assert_eq!(parse_errors(&policies[0]), Vec::<String>::new());
    for case in recorded["cases"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let gate = (!case["gate"].is_null()).then(|| Arc::new(json!({"spec": case["gate"]})));
        let param = |api_version: &str, kind: &str, namespace: &str, name: &str| {
            assert_eq!(
                (api_version, kind, namespace, name),
                ("sluice.dev/v1beta1", "Gate", "default", "sluice")
            );
            gate.clone()
        };
        let surroundings = Policies {
            policies: &policies,
            bindings: &bindings,
            namespace: None,
            param: &param,
            default: &drop_zeros,
        };
        let request =
            deployment_update(case["user"].as_str().unwrap(), case["dryRun"].as_bool().unwrap());
        let mut new = case["new"].clone();
        drop_zeros(&mut new);
        let outcome = mutate(&request, &new, Some(&case["old"]), &surroundings);
        assert_eq!(outcome.object, case["came"], "{name}");
        assert_eq!((outcome.ignored, outcome.denied), (vec![], None), "{name}");
    }
    assert!(recorded["cases"].as_array().unwrap().len() >= 28);
}
