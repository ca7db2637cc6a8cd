use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::sim::schema::builtin;

/// What the server does to a Deployment after each mutation.
fn default_deployment(object: &mut Value) {
    builtin::default("apps", "Deployment", object);
}

fn deployment_update() -> AdmissionRequest {
    AdmissionRequest {
        operation: "UPDATE".into(),
        username: "alice".into(),
        dry_run: true,
        group: "apps".into(),
        version: "v1".into(),
        resource: "deployments".into(),
        kind: "Deployment".into(),
        namespace: "default".into(),
        name: "web".into(),
        ..AdmissionRequest::default()
    }
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
    mutate(request, object.clone(), Some(old), &surroundings)
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
            bound(
                &deployment_update(),
                &case["object"],
                &case["object"],
                policy,
                &default_deployment,
            )
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

fn apply(expression: &str) -> Value {
    json!([{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}}])
}

/// Whether a policy with these constraints acts on this request.
fn acts(constraints: Value, request: &AdmissionRequest, labels: Value) -> bool {
    let mutations = apply("Object{metadata: Object.metadata{annotations: {'hit': 'yes'}}}");
    let mut policy = policy("x", "x", "Fail", json!([]), mutations);
    policy["spec"]["matchConstraints"] = constraints;
    let object = json!({"metadata": {"name": "web", "labels": labels}});
    let outcome = bound(request, &object, &object, policy, &|_| ());
    assert_eq!(outcome.denied, None);
    outcome.object["metadata"]["annotations"]["hit"] == "yes"
}

#[test]
fn a_policy_acts_on_the_requests_that_its_rules_and_selectors_name() {
    let request = deployment_update();
    let status = AdmissionRequest { subresource: "status".into(), ..request.clone() };
    let delete = AdmissionRequest { operation: "DELETE".into(), ..request.clone() };
    let cluster = AdmissionRequest { namespace: String::new(), ..request.clone() };
    let rule = |resource: &str| {
        json!({"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["*"],
            "resources": [resource]})
    };
    let rules = |resource: &str| json!({"resourceRules": [rule(resource)]});
    let none = json!({});
    for (constraints, request, labels, expected) in [
        (rules("deployments"), &request, &none, true),
        (rules("deployments"), &status, &none, false),
        (rules("deployments/status"), &status, &none, true),
        (rules("deployments/*"), &status, &none, true),
        (rules("*"), &request, &none, true),
        (rules("*"), &status, &none, false),
        (rules("*/*"), &status, &none, true),
        (rules("pods"), &request, &none, false),
        (rules("deployments"), &delete, &none, false),
        (json!({}), &request, &none, true),
        (
            json!({"resourceRules": [rule("*")], "excludeResourceRules": [rule("deployments")]}),
            &request,
            &none,
            false,
        ),
        (
            json!({"resourceRules": [{"apiGroups": ["*"], "apiVersions": ["*"],
                "operations": ["UPDATE"], "resources": ["*"], "resourceNames": ["other"]}]}),
            &request,
            &none,
            false,
        ),
        (
            json!({"resourceRules": [{"apiGroups": ["*"], "apiVersions": ["*"],
                "operations": ["UPDATE"], "resources": ["*"], "scope": "Namespaced"}]}),
            &cluster,
            &none,
            false,
        ),
        (json!({"objectSelector": {"matchLabels": {"a": "b"}}}), &request, &none, false),
        (
            json!({"objectSelector": {"matchLabels": {"a": "b"}}}),
            &request,
            &json!({"a": "b"}),
            true,
        ),
        (
            json!({"objectSelector": {"matchExpressions": [
                {"key": "a", "operator": "NotIn", "values": ["b"]}]}}),
            &request,
            &json!({"a": "b"}),
            false,
        ),
        (
            json!({"namespaceSelector": {"matchExpressions": [
                {"key": "a", "operator": "Exists"}]}}),
            &request,
            &none,
            false,
        ),
    ] {
        assert_eq!(acts(constraints.clone(), request, labels.clone()), expected, "{constraints}");
    }
}

#[test]
fn a_parameter_that_is_not_there_skips_the_policy_or_denies() {
    for (action, expected) in [
        ("Allow", None),
        (
            "Deny",
            Some(
                "policy 'q' with binding 'q' denied request: failed to configure binding: no \
                 params found for policy binding with `Deny` parameterNotFoundAction",
            ),
        ),
    ] {
        let mutations = apply("Object{spec: Object.spec{paused: true}}");
        let mut policy = policy("deployments", "apps", "Fail", json!([]), mutations);
        policy["spec"]["paramKind"] = json!({"apiVersion": "a/v1", "kind": "B"});
        let binding = json!({"metadata": {"name": "q"}, "spec": {"policyName": "q",
            "paramRef": {"name": "p", "parameterNotFoundAction": action}}});
        let surroundings = Policies {
            policies: &[Arc::new(policy)],
            bindings: &[Arc::new(binding)],
            namespace: None,
            param: &nothing_found,
            default: &|_| (),
        };
        let object = json!({"metadata": {"name": "web"}, "spec": {}});
        let outcome = mutate(&deployment_update(), object.clone(), None, &surroundings);
        assert_eq!((outcome.object, outcome.denied.as_deref()), (object, expected));
    }
}

#[test]
fn a_policy_runs_again_after_later_ones_only_if_it_asks_for_it() {
    for (reinvocation, expected) in [("Never", "false"), ("IfNeeded", "true")] {
        let named = |name: &str, expression: &str| {
            let mut policy = policy("deployments", "apps", "Fail", json!([]), apply(expression));
            policy["metadata"]["name"] = json!(name);
            policy["spec"]["reinvocationPolicy"] = json!(reinvocation);
            let binding = json!({"metadata": {"name": name}, "spec": {"policyName": name}});
            (Arc::new(policy), Arc::new(binding))
        };
        let seen = "Object{metadata: Object.metadata{labels: {'seen': \
                    string(has(object.metadata.labels.later))}}}";
        let first = named("a", seen);
        let later = named("b", "Object{metadata: Object.metadata{labels: {'later': 'x'}}}");
        let surroundings = Policies {
            policies: &[later.0, first.0],
            bindings: &[first.1, later.1],
            namespace: None,
            param: &nothing_found,
            default: &|_| (),
        };
        let object = json!({"metadata": {"name": "web", "labels": {"app": "web"}}});
        let outcome = mutate(&deployment_update(), object.clone(), None, &surroundings);
        assert_eq!(outcome.object["metadata"]["labels"]["seen"], expected, "{reinvocation}");
    }
}
