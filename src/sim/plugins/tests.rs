use serde_json::json;

use super::*;
use crate::{
    api::crds,
    clock::SimClock,
    sim::apiserver::{Call, PatchType, Verb},
};

const GATES: ResourceKey = ResourceKey::of("sluice.dev", "v1beta1", "gates");
const ROLLOUTS: ResourceKey = ResourceKey::of("sluice.dev", "v1beta1", "rollouts");

fn server() -> ApiServer {
    api_server(Arc::new(SimClock::at("2026-01-01T00:00:00Z".parse().unwrap())))
}

fn create(server: &ApiServer, resource: &ResourceKey, body: Value) -> Refusable<Value> {
    let namespace = body["metadata"]["namespace"].as_str().unwrap_or("").to_owned();
    server.call(Call::new("admin", Verb::Create, resource).namespace(&namespace).body(body))
}

fn patch(server: &ApiServer, user: &str, name: &str, body: Value) -> Value {
    let call = Call::new(user, Verb::Patch(PatchType::Merge), &ResourceKey::DEPLOYMENTS)
        .namespace("default")
        .name(name)
        .body(body);
    server.call(call).unwrap()
}

fn delete(server: &ApiServer, resource: &ResourceKey, namespace: &str, name: &str) {
    server
        .call(Call::new("admin", Verb::Delete, resource).namespace(namespace).name(name))
        .unwrap();
}

fn deployment() -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "c", "image": "v0"}]}}}})
}

/// One of our own definitions.
fn definition(plural: &str) -> Value {
    let mut all = crds::shipped().iter();
    all.find(|crd| crd["spec"]["names"]["plural"] == plural).unwrap().clone()
}

fn recorded() -> Value {
    serde_json::from_str(include_str!("../../../tests/data/cel/shipped_policies.json")).unwrap()
}

/// What a write decides; the rest is the server's own business.
fn decided(object: &Value, status: bool) -> Value {
    let mut decided = json!({"spec": object["spec"], "metadata": {
        "labels": object["metadata"]["labels"],
        "annotations": object["metadata"]["annotations"]}});
    if status {
        decided["status"] = object["status"].clone();
    }
    decided
}

/// One recorded write, on a server of its own.
fn replay(recorded: &Value, case: &Value) -> Value {
    let server = server();
    for plural in ["gates", "rollouts"] {
        create(&server, &ResourceKey::CRDS, definition(plural)).unwrap();
    }
    for policy in recorded["policies"].as_array().unwrap() {
        create(&server, &ResourceKey::MUTATING_POLICIES, policy.clone()).unwrap();
    }
    for binding in recorded["bindings"].as_array().unwrap() {
        create(&server, &ResourceKey::MUTATING_POLICY_BINDINGS, binding.clone()).unwrap();
    }
    let (resource, subresource) = match case["resource"].as_str().unwrap() {
        "deployments" => (ResourceKey::DEPLOYMENTS, None),
        "rollouts" => (ROLLOUTS, None),
        "rollouts/status" => (ROLLOUTS, Some("status".to_owned())),
        other => panic!("unknown resource {other}"),
    };
    let put = |user: &str, subresource: Option<String>, body: Value, dry_run: bool| {
        let mut body = body;
        let stored = Call::new("admin", Verb::Get, &resource).namespace("default").name("web");
        let stored = server.call(stored).unwrap();
        let metadata = body["metadata"].as_object_mut().unwrap();
        metadata.insert("resourceVersion".into(), stored["metadata"]["resourceVersion"].clone());
        let mut call = Call::new(user, Verb::Update, &resource).namespace("default").name("web");
        call = call.body(body);
        call.subresource = subresource;
        call.options.dry_run = dry_run;
        server.call(call).unwrap()
    };
    let old = create(&server, &resource, case["old"].clone()).unwrap();
    if !case["old"]["status"].is_null() {
        let mut body = case["old"].clone();
        if body["status"]["observedGeneration"] == body["metadata"]["generation"] {
            body["status"]["observedGeneration"] = old["metadata"]["generation"].clone();
        }
        put("admin", Some("status".to_owned()), body, false);
    }
    if !case["gate"].is_null() {
        let mut gate = gate();
        gate["spec"] = case["gate"].clone();
        create(&server, &GATES, gate).unwrap();
    }
    let user = case["user"].as_str().unwrap();
    put(user, subresource, case["new"].clone(), case["dryRun"].as_bool().unwrap())
}

#[test]
fn every_write_comes_back_as_the_real_server_returned_it() {
    let recorded = recorded();
    let cases = recorded["cases"].as_array().unwrap();
    assert!(cases.len() > 35, "{}", cases.len());
    for case in cases {
        let status = case["resource"] != "deployments";
        let ours = decided(&replay(&recorded, case), status);
        assert_eq!(ours, decided(&case["came"], status), "{}", case["name"]);
    }
}

fn gate() -> Value {
    json!({"apiVersion": "sluice.dev/v1beta1", "kind": "Gate",
        "metadata": {"name": "sluice", "namespace": "default"},
        "spec": {"account": "system:serviceaccount:sluice:sluice", "deployments": {"web": {}}}})
}

#[test]
fn a_new_template_comes_back_paused_only_while_policy_binding_and_gate_exist() {
    let server = server();
    let recorded = recorded();
    let (policies, bindings) =
        (ResourceKey::MUTATING_POLICIES, ResourceKey::MUTATING_POLICY_BINDINGS);
    create(&server, &ResourceKey::CRDS, definition("gates")).unwrap();
    create(&server, &ResourceKey::DEPLOYMENTS, deployment()).unwrap();
    let mut image = 0;
    let mut paused = || {
        image += 1;
        let body = json!({"spec": {"paused": false, "template": {"spec": {"containers": [
            {"name": "c", "image": format!("v{image}")}]}}}});
        let came = patch(&server, "alice", "web", body);
        let paused = came["spec"]["paused"] == json!(true);
        // The next round starts from a Deployment that runs.
        let controller = "system:serviceaccount:sluice:sluice";
        patch(&server, controller, "web", json!({"spec": {"paused": false}}));
        paused
    };
    assert!(!paused(), "nothing is there");
    create(&server, &policies, recorded["policies"][0].clone()).unwrap();
    assert!(!paused(), "a policy alone");
    create(&server, &bindings, recorded["bindings"][0].clone()).unwrap();
    assert!(!paused(), "no Gate");
    create(&server, &GATES, gate()).unwrap();
    assert!(paused(), "policy, binding and Gate");
    delete(&server, &GATES, "default", "sluice");
    assert!(!paused(), "the Gate was deleted");
    create(&server, &GATES, gate()).unwrap();
    assert!(paused(), "and is back");
    delete(&server, &bindings, "", "sluice-deployment");
    assert!(!paused(), "the binding was deleted");
    create(&server, &bindings, recorded["bindings"][0].clone()).unwrap();
    assert!(paused(), "and is back");
    delete(&server, &policies, "", "sluice-deployment");
    assert!(!paused(), "the policy was deleted");
}

#[test]
fn a_policy_on_the_status_writes_who_approved() {
    let server = server();
    create(
        &server,
        &ResourceKey::CRDS,
        json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "rollouts.sluice.dev"},
        "spec": {"group": "sluice.dev", "scope": "Namespaced",
            "names": {"kind": "Rollout", "plural": "rollouts", "singular": "rollout"},
            "versions": [{"name": "v1beta1", "served": true, "storage": true,
                "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                    "spec": {"type": "object", "properties": {"a": {"type": "integer"}}},
                    "status": {"type": "object", "properties": {
                        "approved": {"type": "boolean"}, "approvedBy": {"type": "string"}}}}}}}]}}),
    )
    .unwrap();
    create(
        &server,
        &ResourceKey::MUTATING_POLICIES,
        json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicy",
        "metadata": {"name": "approver"},
        "spec": {
            "matchConstraints": {"resourceRules": [{"apiGroups": ["sluice.dev"],
                "apiVersions": ["v1beta1"], "operations": ["UPDATE"],
                "resources": ["rollouts/status"]}]},
            "failurePolicy": "Fail",
            "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression":
                "Object{status: Object.status{approvedBy: request.userInfo.username}}"}}]}}),
    )
    .unwrap();
    create(
        &server,
        &ResourceKey::MUTATING_POLICY_BINDINGS,
        json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicyBinding",
        "metadata": {"name": "approver"}, "spec": {"policyName": "approver"}}),
    )
    .unwrap();
    create(
        &server,
        &ROLLOUTS,
        json!({"apiVersion": "sluice.dev/v1beta1", "kind": "Rollout",
        "metadata": {"name": "web", "namespace": "default"}, "spec": {"a": 1}}),
    )
    .unwrap();
    let write = |subresource: Option<&str>, body: Value| {
        let mut call = Call::new("alice", Verb::Patch(PatchType::Merge), &ROLLOUTS)
            .namespace("default")
            .name("web")
            .body(body);
        call.subresource = subresource.map(str::to_owned);
        server.call(call).unwrap()
    };
    assert_eq!(write(None, json!({"spec": {"a": 2}}))["status"], Value::Null);
    let came = write(Some("status"), json!({"status": {"approved": true, "approvedBy": "bob"}}));
    assert_eq!(came["status"], json!({"approved": true, "approvedBy": "alice"}));
    assert_eq!(came["spec"], json!({"a": 2}));
}

#[test]
fn a_deployment_is_defaulted_and_an_invalid_one_refused() {
    let server = server();
    let came = create(&server, &ResourceKey::DEPLOYMENTS, deployment()).unwrap();
    assert_eq!(came["spec"]["progressDeadlineSeconds"], 600);
    let mut both = deployment();
    both["metadata"]["name"] = json!("other");
    both["spec"]["strategy"] = json!({"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 0}});
    let refused = create(&server, &ResourceKey::DEPLOYMENTS, both).unwrap_err();
    assert_eq!(
        (refused.code, refused.message.as_str()),
        (
            422,
            "Deployment.apps \"other\" is invalid: \
             spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when \
             `maxSurge` is 0"
        )
    );
}

#[test]
fn a_policy_that_does_not_parse_is_refused() {
    let policy = json!({"apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingAdmissionPolicy", "metadata": {"name": "broken"},
        "spec": {"variables": [{"name": "x", "expression": "1 +"}], "mutations": []}});
    let refused = create(&server(), &ResourceKey::MUTATING_POLICIES, policy).unwrap_err();
    assert!(refused.message.contains("spec.variables[0].expression"), "{}", refused.message);
}

/// A cluster in which a policy wants labels, with what a creation of a Deployment without any is told.
fn labels_wanted(
    actions: &[&str],
    failure: &str,
    validation: Value,
) -> (Vec<String>, Option<String>) {
    let server = server();
    let policy = json!({"apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy", "metadata": {"name": "labels"},
        "spec": {"failurePolicy": failure, "validations": [validation],
            "variables": [{"name": "web", "expression": "object.metadata.name == 'web'"}],
            "matchConstraints": {"resourceRules": [{"apiGroups": ["apps"], "apiVersions": ["v1"],
                "operations": ["CREATE"], "resources": ["deployments"]}]}}});
    create(&server, &ResourceKey::VALIDATING_POLICIES, policy).unwrap();
    let binding = json!({"apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": "all"},
        "spec": {"policyName": "labels", "validationActions": actions}});
    create(&server, &ResourceKey::VALIDATING_POLICY_BINDINGS, binding).unwrap();
    let call = Call::new("user", Verb::Create, &ResourceKey::DEPLOYMENTS).namespace("default");
    match server.handle(call.body(deployment())) {
        Ok(reply) => (reply.warnings, None),
        Err(refusal) => (Vec::new(), Some(refusal.message)),
    }
}

#[test]
fn what_is_not_valid_is_warned_of_or_denied_as_the_binding_says() {
    let named = "ValidatingAdmissionPolicy 'labels' with binding 'all'";
    let rule = json!({"expression": "!variables.web || has(object.metadata.labels)",
        "messageExpression": "object.metadata.name + ' has no labels'", "message": "no labels"});
    let warning = format!("Validation failed for {named}: web has no labels");
    assert_eq!(labels_wanted(&["Warn"], "Fail", rule.clone()), (vec![warning], None));
    let denied =
        format!("deployments.apps \"web\" is forbidden: {named} denied request: web has no labels");
    assert_eq!(labels_wanted(&["Deny"], "Fail", rule.clone()), (Vec::new(), Some(denied)));
    assert_eq!(labels_wanted(&["Audit"], "Fail", rule), (Vec::new(), None));
    // A message of several lines is none, and without any the expression is said.
    for (more, said) in [
        (json!({"messageExpression": "'a\\nb'", "message": "no labels"}), "no labels"),
        (json!({}), "failed expression: has(object.metadata.labels)"),
    ] {
        let mut rule = json!({"expression": "has(object.metadata.labels)"});
        json_patch::merge(&mut rule, &more);
        let (warnings, _) = labels_wanted(&["Warn"], "Fail", rule);
        assert_eq!(warnings, [format!("Validation failed for {named}: {said}")]);
    }
}

#[test]
fn a_validation_that_errs_is_the_policys_failure_policy() {
    let rule = json!({"expression": "object.metadata.labels.app == 'web'"});
    assert_eq!(labels_wanted(&["Deny"], "Ignore", rule.clone()), (Vec::new(), None));
    let (_, refused) = labels_wanted(&["Deny"], "Fail", rule);
    assert!(refused.unwrap().contains("no such key: labels"));
}

#[test]
fn a_custom_resource_is_pruned_defaulted_and_validated_by_its_schema() {
    let server = server();
    create(&server, &ResourceKey::CRDS, definition("gates")).unwrap();
    let mut unknown = gate();
    unknown["spec"]["nonsense"] = json!(1);
    let came = create(&server, &GATES, unknown).unwrap();
    assert_eq!(came["spec"].get("nonsense"), None);
    let mut wrong = gate();
    wrong["metadata"]["name"] = json!("other");
    wrong["spec"]["account"] = json!(1);
    let refused = create(&server, &GATES, wrong).unwrap_err();
    assert!(refused.message.contains("must be of type string: \"integer\""), "{}", refused.message);
}
