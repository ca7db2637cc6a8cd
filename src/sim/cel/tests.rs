use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::sim::schema::builtin;

/// What the server does to a Deployment after each mutation.
fn default_deployment(object: &mut Value) {
    builtin::default("apps", "Deployment", object);
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
    assert_eq!(parse_errors(&policies[0]), vec![]);
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
            default: &default_deployment,
        };
        let request =
            deployment_update(case["user"].as_str().unwrap(), case["dryRun"].as_bool().unwrap());
        let mut new = case["new"].clone();
        default_deployment(&mut new);
        let outcome = mutate(&request, &new, Some(&case["old"]), &surroundings);
        assert_eq!(outcome.object, case["came"], "{name}");
        assert_eq!((outcome.ignored, outcome.denied), (vec![], None), "{name}");
    }
    assert!(recorded["cases"].as_array().unwrap().len() >= 28);
}

fn recorded_expressions() -> Value {
    serde_json::from_str(include_str!("../../../tests/data/cel/expressions.json")).unwrap()
}

fn nothing_found(_: &str, _: &str, _: &str, _: &str) -> Option<Arc<Value>> {
    None
}

fn policy(resource: &str, group: &str, failure: &str, variables: Value, mutations: Value) -> Value {
    json!({"metadata": {"name": "q"}, "spec": {
        "matchConstraints": {"resourceRules": [{
            "apiGroups": [group], "apiVersions": ["v1"], "operations": ["UPDATE"],
            "resources": [resource],
        }]},
        "failurePolicy": failure,
        "variables": variables,
        "mutations": mutations,
    }})
}

fn bound(
    request: &AdmissionRequest,
    object: &Value,
    old: &Value,
    policy: Value,
    default: &dyn Fn(&mut Value),
) -> MutateOutcome {
    let binding = json!({"metadata": {"name": "q"}, "spec": {"policyName": "q"}});
    let surroundings = Policies {
        policies: &[Arc::new(policy)],
        bindings: &[Arc::new(binding)],
        namespace: Some(&json!({"metadata": {"name": "default"}})),
        param: &nothing_found,
        default,
    };
    mutate(request, object, Some(old), &surroundings)
}

#[test]
fn every_expression_has_the_value_that_the_real_server_computed() {
    let recorded = recorded_expressions();
    let request = AdmissionRequest {
        operation: "UPDATE".into(),
        username: "alice".into(),
        dry_run: true,
        version: "v1".into(),
        resource: "configmaps".into(),
        kind: "ConfigMap".into(),
        namespace: "default".into(),
        name: "cm-one".into(),
        ..AdmissionRequest::default()
    };
    let metadata = json!({"name": "cm-one", "namespace": "default"});
    let old = json!({"metadata": metadata, "data": {"one": "1", "two": "2"}});
    let new = json!({"metadata": metadata, "data": {"one": "1", "two": "2", "three": "3"}});
    let variables = json!([
        {"name": "base", "expression": "int(object.data.one)"},
        {"name": "sum", "expression": "string(variables.base + 1)"},
        {"name": "bad", "expression": "object.data.nope"},
    ]);
    let mut wrong = Vec::new();
    for pair in recorded["expressions"].as_array().unwrap() {
        let (expression, expected) = (pair[0].as_str().unwrap(), &pair[1]);
        // What the type checker refuses has no value to compare with.
        if expected == "refused" {
            continue;
        }
        let written =
            format!("Object{{metadata: Object.metadata{{annotations: {{\"e\": {expression}}}}}}}");
        let mutation = json!([{"patchType": "ApplyConfiguration",
            "applyConfiguration": {"expression": written}}]);
        let policy = policy("configmaps", "", "Ignore", variables.clone(), mutation);
        let outcome = bound(&request, &new, &old, policy, &|_| ());
        let value = outcome.object["metadata"]["annotations"]["e"].clone();
        if value != *expected {
            wrong.push(format!("{expression}: {value}, not {expected} {:?}", outcome.ignored));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn mutations_merge_patch_and_fail_as_on_the_real_server() {
    let recorded = recorded_expressions();
    let variables = json!([{"name": "replicas", "expression": "object.spec.replicas"}]);
    for case in recorded["policies"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        // The server knows the fields of a Deployment; this evaluator does not.
        if name == "an unknown field is an error" {
            continue;
        }
        let run = |failure: &str| {
            let policy = policy(
                "deployments",
                "apps",
                failure,
                variables.clone(),
                case["mutations"].clone(),
            );
            let request = deployment_update("alice", true);
            bound(&request, &case["object"], &case["object"], policy, &default_deployment)
        };
        let ignored = run("Ignore");
        assert_eq!(ignored.object, case["came"], "{name}: {:?}", ignored.ignored);
        let failed = run("Fail");
        match case["fail"]["message"].as_str() {
            // The two JSON patch libraries word their errors differently.
            Some(message) if message.contains("JSON Patch: ") => {
                let head = message.split("JSON Patch: ").next().unwrap();
                assert!(failed.denied.unwrap().starts_with(head), "{name}");
            }
            message => assert_eq!(failed.denied.as_deref(), message, "{name}"),
        }
    }
}
