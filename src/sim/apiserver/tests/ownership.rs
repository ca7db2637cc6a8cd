//! managedFields and server-side apply.

use super::{super::Refusable, *};

fn web(server: &ApiServer) -> Value {
    let web = server.get(&ResourceKey::DEPLOYMENTS, "default", "web").unwrap();
    Value::clone(&web)
}

/// Manager, operation and subresource of each entry.
fn owners(object: &Value) -> Vec<String> {
    let entries = object["metadata"]["managedFields"].as_array();
    let entries = entries.into_iter().flatten().map(|entry| {
        let text = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
        format!("{} {} {}", text("manager"), text("operation"), text("subresource"))
    });
    entries.map(|text| text.trim_end().to_owned()).collect()
}

fn fields_of(object: &Value, manager: &str) -> Value {
    let entries = object["metadata"]["managedFields"].as_array().unwrap();
    let entry = entries.iter().find(|entry| entry["manager"] == manager).unwrap();
    entry["fieldsV1"].clone()
}

fn apply(server: &ApiServer, manager: &str, spec: Value) -> Refusable<Value> {
    let object = json!({"apiVersion": "apps/v1", "kind": "Deployment",
                        "metadata": {"name": "web", "namespace": "default"}, "spec": spec});
    server.apply("admin", manager, false, object)
}

fn merge(server: &ApiServer, manager: &str, body: Value) -> Value {
    let call = patch(PatchType::Merge, &ResourceKey::DEPLOYMENTS, "web", body);
    server.call(call.manager(manager)).unwrap()
}

#[test]
fn whoever_creates_an_object_owns_what_it_wrote() {
    let server = server();
    let call = Call::new("admin", Verb::Create, &ResourceKey::DEPLOYMENTS).namespace("default");
    let made = server.call(call.body(deployment("web", 3)).manager("creator")).unwrap();
    assert_eq!(owners(&made), ["creator Update"]);
    let fields = fields_of(&made, "creator");
    assert_eq!(fields["f:metadata"], json!({"f:labels": {"f:app": {}}}));
    assert_eq!(fields["f:spec"]["f:selector"], json!({}));
    let containers = &fields["f:spec"]["f:template"]["f:spec"]["f:containers"];
    let expected = json!({"k:{\"name\":\"app\"}": {".": {}, "f:image": {}, "f:name": {}}});
    assert_eq!(*containers, expected);
}

#[test]
fn a_changed_field_changes_its_owner() {
    let server = server();
    let call = Call::new("admin", Verb::Create, &ResourceKey::DEPLOYMENTS).namespace("default");
    server.call(call.body(deployment("web", 3)).manager("creator")).unwrap();
    let changed = merge(&server, "scaler", json!({"spec": {"replicas": 5}}));
    assert_eq!(owners(&changed), ["creator Update", "scaler Update"]);
    assert_eq!(fields_of(&changed, "scaler"), json!({"f:spec": {"f:replicas": {}}}));
    assert!(fields_of(&changed, "creator")["f:spec"].get("f:replicas").is_none());
    let status = json!({"status": {"replicas": 5}});
    let call = patch(PatchType::Merge, &ResourceKey::DEPLOYMENTS, "web", status);
    let changed = server.call(call.subresource("status").manager("native")).unwrap();
    assert!(owners(&changed).contains(&"native Update status".to_owned()));
}

#[test]
fn two_managers_share_a_value_and_quarrel_over_another() {
    let server = server();
    apply(&server, "one", deployment("web", 3)["spec"].clone()).unwrap();
    apply(&server, "two", json!({"replicas": 3})).unwrap();
    let refused = apply(&server, "two", json!({"replicas": 4})).unwrap_err();
    assert_eq!((refused.code, refused.reason), (409, "Conflict"));
    let message = "Apply failed with 1 conflict: conflict with \"one\": .spec.replicas";
    assert_eq!(refused.message, message);
    assert_eq!(refused.details["causes"][0]["field"], ".spec.replicas");
    let other = json!({"replicas": 4, "template": {"spec": {"containers": [
        {"name": "app", "image": "app:2"}]}}});
    let refused = apply(&server, "two", other).unwrap_err();
    assert_eq!(
        refused.message,
        "Apply failed with 2 conflicts: conflicts with \"one\":\n- .spec.replicas\n\
         - .spec.template.spec.containers[name=\"app\"].image"
    );
}

#[test]
fn force_takes_a_field_over() {
    let server = server();
    apply(&server, "one", deployment("web", 3)["spec"].clone()).unwrap();
    let object = json!({"apiVersion": "apps/v1", "kind": "Deployment",
                        "metadata": {"name": "web"}, "spec": {"replicas": 4}});
    let forced = server.apply("admin", "two", true, object).unwrap();
    assert_eq!(forced["spec"]["replicas"], 4);
    assert!(fields_of(&forced, "one")["f:spec"].get("f:replicas").is_none());
}

#[test]
fn what_a_manager_gives_up_goes_unless_another_owns_it() {
    let server = server();
    apply(&server, "one", deployment("web", 3)["spec"].clone()).unwrap();
    let extra = json!({"minReadySeconds": 3, "replicas": 3, "template": {"spec": {"containers": [
        {"name": "side", "image": "side:1", "ports": [{"containerPort": 80}]}]}}});
    let both = apply(&server, "two", extra).unwrap();
    let names = |object: &Value| -> Vec<Value> {
        let list = object["spec"]["template"]["spec"]["containers"].as_array().unwrap();
        list.iter().map(|container| container["name"].clone()).collect()
    };
    assert_eq!(names(&both), ["app", "side"]);
    let ports = &fields_of(&both, "two")["f:spec"]["f:template"]["f:spec"]["f:containers"];
    let ports = &ports["k:{\"name\":\"side\"}"]["f:ports"];
    assert_eq!(
        *ports,
        json!({"k:{\"containerPort\":80,\"protocol\":\"TCP\"}":
                              {".": {}, "f:containerPort": {}}})
    );
    let left = apply(&server, "two", json!({})).unwrap();
    assert_eq!(names(&left), ["app"]);
    assert!(left["spec"].get("minReadySeconds").is_none());
    assert_eq!(left["spec"]["replicas"], 3);
    assert_eq!(fields_of(&left, "two"), json!({"f:spec": {}}));
}

#[test]
fn the_same_configuration_again_writes_nothing() {
    let server = server();
    apply(&server, "one", deployment("web", 3)["spec"].clone()).unwrap();
    let before = server.resource_version();
    apply(&server, "one", deployment("web", 3)["spec"].clone()).unwrap();
    assert_eq!(server.resource_version(), before);
}

#[test]
fn a_json_patch_can_remove_an_entry() {
    let server = server();
    apply(&server, "one", deployment("web", 3)["spec"].clone()).unwrap();
    merge(&server, "sluice", json!({"spec": {"paused": true}}));
    let refused = apply(&server, "other", json!({"paused": false})).unwrap_err();
    assert!(refused.message.contains("conflict with \"sluice\" using apps/v1"));
    let at = owners(&web(&server)).iter().position(|owner| owner == "sluice Update").unwrap();
    let body = json!([
        {"op": "test", "path": format!("/metadata/managedFields/{at}/manager"), "value": "sluice"},
        {"op": "remove", "path": format!("/metadata/managedFields/{at}")},
    ]);
    let call = patch(PatchType::Json, &ResourceKey::DEPLOYMENTS, "web", body).manager("sluice");
    let freed = server.call(call).unwrap();
    assert_eq!(owners(&freed), ["one Apply"]);
    assert_eq!(freed["spec"]["paused"], true);
    apply(&server, "other", json!({"paused": false})).unwrap();
}

#[test]
fn one_empty_entry_ends_all_tracking_until_somebody_applies() {
    let server = server();
    server.create("admin", deployment("web", 3)).unwrap();
    let body = json!([{"op": "replace", "path": "/metadata/managedFields", "value": [{}]}]);
    let call = patch(PatchType::Json, &ResourceKey::DEPLOYMENTS, "web", body);
    assert_eq!(owners(&server.call(call).unwrap()), Vec::<String>::new());
    let changed = merge(&server, "scaler", json!({"spec": {"replicas": 6}}));
    assert_eq!(owners(&changed), Vec::<String>::new());
    let refused = apply(&server, "one", json!({"replicas": 7})).unwrap_err();
    assert!(refused.message.contains("conflict with \"before-first-apply\""));
}

#[test]
fn a_manager_without_a_name_and_a_null_are_refused_and_ignored() {
    let server = server();
    let call = patch(PatchType::Apply, &CONFIG_MAPS, "a", config("a"));
    assert_eq!(server.call(call).unwrap_err().code, 422);
    let mut object = config("a");
    object["data"]["gone"] = Value::Null;
    let made = server.apply("admin", "one", false, object).unwrap();
    assert_eq!(made["data"], json!({"key": "value"}));
}
