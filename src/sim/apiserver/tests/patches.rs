//! Strategic merge patches, and what the other kinds of patches refuse.

use super::*;

fn containers(server: &ApiServer, body: Value) -> Value {
    let body = json!({"spec": {"template": {"spec": body}}});
    let call = patch(PatchType::Strategic, &ResourceKey::DEPLOYMENTS, "web", body);
    server.call(call).unwrap()["spec"]["template"]["spec"]["containers"].clone()
}

fn with_two(server: &ApiServer) {
    let mut object = deployment("web", 3);
    object["spec"]["template"]["spec"]["containers"] = json!([
        {"name": "app", "image": "app:1", "env": [{"name": "A", "value": "1"}],
         "ports": [{"containerPort": 80, "name": "http"}]},
        {"name": "side", "image": "side:1"},
    ]);
    server.create("admin", object).unwrap();
}

#[test]
fn lists_are_merged_by_their_key() {
    let server = server();
    with_two(&server);
    let body = json!({"containers": [
        {"name": "app", "env": [{"name": "B", "value": "2"}, {"name": "A", "value": "9"}],
         "ports": [{"containerPort": 80, "name": "web"}, {"containerPort": 81}]},
        {"name": "new", "image": "new:1"},
    ]});
    let after = containers(&server, body);
    assert_eq!(after[0]["env"], json!([{"name": "B", "value": "2"}, {"name": "A", "value": "9"}]));
    assert_eq!(
        after[0]["ports"],
        json!([{"containerPort": 80, "name": "web"}, {"containerPort": 81}])
    );
    let names: Vec<&Value> = after.as_array().unwrap().iter().map(|c| &c["name"]).collect();
    assert_eq!(names, ["app", "new", "side"]);
}

#[test]
fn directives_delete_replace_and_order() {
    let server = server();
    with_two(&server);
    let after = containers(&server, json!({"containers": [{"name": "side", "$patch": "delete"}]}));
    assert_eq!(after.as_array().unwrap().len(), 1);
    let body = json!({
        "$setElementOrder/containers": [{"name": "new"}, {"name": "app"}],
        "containers": [{"name": "new", "image": "new:1"}],
    });
    let after = containers(&server, body);
    assert_eq!((&after[0]["name"], &after[1]["name"]), (&json!("new"), &json!("app")));
    let body = json!({"containers": [{"$patch": "replace"}, {"name": "only", "image": "o:1"}]});
    assert_eq!(containers(&server, body), json!([{"name": "only", "image": "o:1"}]));
}

#[test]
fn null_removes_and_retained_keys_drop_the_others() {
    let server = server();
    let mut object = deployment("web", 3);
    object["spec"]["strategy"] =
        json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}});
    server.create("admin", object).unwrap();
    let body = json!({"spec": {"replicas": null,
        "strategy": {"$retainKeys": ["type"], "type": "Recreate"}}});
    let call = patch(PatchType::Strategic, &ResourceKey::DEPLOYMENTS, "web", body);
    let after = server.call(call).unwrap();
    assert_eq!(after["spec"]["strategy"], json!({"type": "Recreate"}));
    assert!(after["spec"].get("replicas").is_none());
}

#[test]
fn finalizers_are_a_set() {
    let server = server();
    let mut object = config("c");
    object["metadata"]["finalizers"] = json!(["a/b"]);
    server.create("admin", object).unwrap();
    let body = json!({"metadata": {"finalizers": ["c/d"]}});
    let after = server.call(patch(PatchType::Strategic, &CONFIG_MAPS, "c", body)).unwrap();
    assert_eq!(after["metadata"]["finalizers"], json!(["c/d", "a/b"]));
    let body = json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a/b"]}});
    let after = server.call(patch(PatchType::Strategic, &CONFIG_MAPS, "c", body)).unwrap();
    assert_eq!(after["metadata"]["finalizers"], json!(["c/d"]));
}

#[test]
fn a_failing_json_patch_changes_nothing() {
    let server = server();
    server.create("admin", deployment("web", 3)).unwrap();
    let body = json!([
        {"op": "replace", "path": "/spec/replicas", "value": 9},
        {"op": "test", "path": "/spec/paused", "value": true},
    ]);
    let call = patch(PatchType::Json, &ResourceKey::DEPLOYMENTS, "web", body);
    let refused = server.call(call).unwrap_err();
    assert_eq!((refused.code, refused.reason), (422, "Invalid"));
    let stored = server.get(&ResourceKey::DEPLOYMENTS, "default", "web").unwrap();
    assert_eq!(stored["spec"]["replicas"], 3);
    let call = patch(PatchType::Json, &ResourceKey::DEPLOYMENTS, "web", json!({"op": 1}));
    assert_eq!(server.call(call).unwrap_err().code, 400);
}
