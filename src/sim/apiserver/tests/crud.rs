//! Creating, changing, reading and deleting.

use super::*;

fn deploy(server: &ApiServer) -> Value {
    server.create("admin", deployment("web", 3)).unwrap()
}

#[test]
fn a_new_object_gets_identity_from_the_server() {
    let server = server();
    let made = deploy(&server);
    assert_eq!(made["metadata"]["generation"], 1);
    assert_eq!(made["metadata"]["creationTimestamp"], "2026-01-01T00:00:00Z");
    assert!(!made["metadata"]["uid"].as_str().unwrap().is_empty());
    let again = server.create("admin", deployment("web", 3)).unwrap_err();
    assert_eq!((again.code, again.reason), (409, "AlreadyExists"));
    assert_eq!(again.message, "deployments.apps \"web\" already exists");
}

#[test]
fn a_prefix_becomes_a_name_that_is_the_same_in_every_run() {
    let named = |server: &ApiServer| {
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap",
                            "metadata": {"generateName": "web-"}});
        let made = server.create("admin", object).unwrap();
        made["metadata"]["name"].as_str().unwrap().to_owned()
    };
    let (one, two) = (server(), server());
    let (first, second) = (named(&one), named(&one));
    assert_ne!(first, second);
    assert_eq!(first.len(), "web-".len() + 5);
    assert_eq!([first, second], [named(&two), named(&two)]);
}

#[test]
fn the_generation_grows_with_the_spec_only() {
    let server = server();
    deploy(&server);
    let merge = |body| server.call(patch(PatchType::Merge, &ResourceKey::DEPLOYMENTS, "web", body));
    let labelled = merge(json!({"metadata": {"labels": {"tier": "front"}}})).unwrap();
    assert_eq!(labelled["metadata"]["generation"], 1);
    let scaled = merge(json!({"spec": {"replicas": 4}})).unwrap();
    assert_eq!(scaled["metadata"]["generation"], 2);
    let status = json!({"status": {"replicas": 4, "observedGeneration": 2}});
    let observed =
        server.patch_status("admin", &ResourceKey::DEPLOYMENTS, "default", "web", status).unwrap();
    assert_eq!(observed["metadata"]["generation"], 2);
    assert_eq!(observed["status"]["replicas"], 4);
}

#[test]
fn a_write_that_changes_nothing_keeps_the_resource_version() {
    let server = server();
    let made = deploy(&server);
    let before = server.resource_version();
    let same = server.update("admin", made.clone()).unwrap();
    assert_eq!(same["metadata"]["resourceVersion"], made["metadata"]["resourceVersion"]);
    assert_eq!(server.resource_version(), before);
}

#[test]
fn status_and_the_rest_are_written_apart() {
    let server = server();
    let mut made = deploy(&server);
    made["status"] = json!({"replicas": 9});
    made["spec"]["replicas"] = json!(5);
    let updated = server.update("admin", made.clone()).unwrap();
    assert_eq!((&updated["spec"]["replicas"], &updated["status"]), (&json!(5), &json!({})));
    let mut wanted = updated;
    wanted["status"] = json!({"replicas": 9});
    wanted["spec"]["replicas"] = json!(7);
    let updated = server.update_status("admin", wanted).unwrap();
    assert_eq!(updated["spec"]["replicas"], 5);
    assert_eq!(updated["status"]["replicas"], 9);
}

#[test]
fn a_stale_write_is_a_conflict() {
    let server = server();
    let made = deploy(&server);
    let mut newer = made.clone();
    newer["spec"]["replicas"] = json!(4);
    server.update("admin", newer).unwrap();
    let mut stale = made.clone();
    stale["spec"]["replicas"] = json!(5);
    let refused = server.update("admin", stale).unwrap_err();
    assert!(refused.is_conflict());
    assert_eq!(
        refused.message,
        "Operation cannot be fulfilled on deployments.apps \"web\": the object has been modified; \
         please apply your changes to the latest version and try again"
    );
    let other = json!({"metadata": {"uid": "other"}, "spec": {"replicas": 6}});
    let refused = server
        .patch_merge("admin", &ResourceKey::DEPLOYMENTS, "default", "web", other)
        .unwrap_err();
    assert_eq!(refused.code, 422);
    let mut other = server.get(&ResourceKey::DEPLOYMENTS, "default", "web").unwrap();
    Arc::make_mut(&mut other)["metadata"]["uid"] = json!("other");
    let refused = server.update("admin", Value::clone(&other)).unwrap_err();
    assert!(refused.is_conflict());
}

#[test]
fn a_dry_run_stores_nothing() {
    let server = server();
    deploy(&server);
    let before = server.resource_version();
    let body = json!({"spec": {"replicas": 8}});
    let call = patch(PatchType::Merge, &ResourceKey::DEPLOYMENTS, "web", body).dry_run();
    assert_eq!(server.call(call).unwrap()["spec"]["replicas"], 8);
    assert_eq!(server.resource_version(), before);
    let stored = server.get(&ResourceKey::DEPLOYMENTS, "default", "web").unwrap();
    assert_eq!(stored["spec"]["replicas"], 3);
}

#[test]
fn a_scale_moves_only_the_replicas() {
    let server = server();
    deploy(&server);
    let call =
        patch(PatchType::Merge, &ResourceKey::DEPLOYMENTS, "web", json!({"spec": {"replicas": 6}}));
    let scale = server.call(call.subresource("scale")).unwrap();
    assert_eq!(scale["kind"], "Scale");
    assert_eq!(scale["spec"]["replicas"], 6);
    assert_eq!(scale["status"]["selector"], "app=web");
    let stored = server.get(&ResourceKey::DEPLOYMENTS, "default", "web").unwrap();
    assert_eq!(stored["spec"]["replicas"], 6);
    assert_eq!(stored["metadata"]["generation"], 2);
}

#[test]
fn a_finalizer_holds_a_deleted_object() {
    let server = server();
    let mut object = config("held");
    object["metadata"]["finalizers"] = json!(["sluice.dev/hold"]);
    server.create("admin", object).unwrap();
    let marked = server.delete("admin", &CONFIG_MAPS, "default", "held").unwrap();
    assert_eq!(marked["metadata"]["deletionTimestamp"], "2026-01-01T00:00:00Z");
    let add = json!({"metadata": {"finalizers": ["sluice.dev/hold", "more"]}});
    let refused = server.patch_merge("admin", &CONFIG_MAPS, "default", "held", add).unwrap_err();
    assert_eq!(refused.code, 422);
    let free = json!({"metadata": {"finalizers": null}});
    server.patch_merge("admin", &CONFIG_MAPS, "default", "held", free).unwrap();
    assert!(server.get(&CONFIG_MAPS, "default", "held").is_none());
}

#[test]
fn a_running_pod_is_deleted_in_two_steps() {
    let server = server();
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
                     "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "i"}]}});
    let made = server.create("admin", pod).unwrap();
    let marked = server.delete("admin", &ResourceKey::PODS, "default", "p").unwrap();
    assert_eq!(marked["metadata"]["deletionTimestamp"], "2026-01-01T00:00:30Z");
    assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 30);
    let call =
        Call::new("kubelet", Verb::Delete, &ResourceKey::PODS).namespace("default").name("p");
    let other = json!({"gracePeriodSeconds": 0, "preconditions": {"uid": "other"}});
    assert!(server.call(call.clone().body(other)).unwrap_err().is_conflict());
    let uid = &made["metadata"]["uid"];
    let own = json!({"gracePeriodSeconds": 0, "preconditions": {"uid": uid}});
    server.call(call.body(own)).unwrap();
    assert!(server.get(&ResourceKey::PODS, "default", "p").is_none());
}

#[test]
fn what_an_owner_leaves_behind_goes_with_it_unless_it_is_orphaned() {
    let server = server();
    let owned = |owner: &Value, name: &str| {
        let mut object = config(name);
        let uid = &owner["metadata"]["uid"];
        object["metadata"]["ownerReferences"] = json!([{"apiVersion": "apps/v1",
            "kind": "Deployment", "name": "web", "uid": uid}]);
        server.create("admin", object).unwrap();
    };
    let owner = deploy(&server);
    owned(&owner, "one");
    server.delete("admin", &ResourceKey::DEPLOYMENTS, "default", "web").unwrap();
    assert!(server.get(&CONFIG_MAPS, "default", "one").is_none());
    owned(&owner, "late");
    assert!(server.get(&CONFIG_MAPS, "default", "late").is_none());
    let owner = deploy(&server);
    owned(&owner, "two");
    let call = Call::new("admin", Verb::Delete, &ResourceKey::DEPLOYMENTS);
    let body = json!({"propagationPolicy": "Orphan"});
    server.call(call.namespace("default").name("web").body(body)).unwrap();
    let kept = server.get(&CONFIG_MAPS, "default", "two").unwrap();
    assert!(kept["metadata"].get("ownerReferences").is_none());
}

#[test]
fn a_namespace_takes_its_contents_along() {
    let server = server();
    let namespaces = ResourceKey::NAMESPACES;
    let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}});
    server.create("admin", object).unwrap();
    let mut object = config("held");
    object["metadata"]["namespace"] = json!("team");
    object["metadata"]["finalizers"] = json!(["sluice.dev/hold"]);
    server.create("admin", object.clone()).unwrap();
    server.delete("admin", &namespaces, "", "team").unwrap();
    let going = server.get(&namespaces, "", "team").unwrap();
    assert_eq!(going["status"]["phase"], "Terminating");
    object["metadata"]["name"] = json!("late");
    assert_eq!(server.create("admin", object).unwrap_err().code, 403);
    let free = json!({"metadata": {"finalizers": null}});
    server.patch_merge("admin", &CONFIG_MAPS, "team", "held", free).unwrap();
    assert!(server.get(&namespaces, "", "team").is_none());
}

#[test]
fn a_definition_is_served_while_it_exists() {
    let server = server();
    let crd = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "things.example.io"},
        "spec": {
            "group": "example.io", "scope": "Namespaced",
            "names": {"plural": "things", "kind": "Thing"},
            "versions": [
                {"name": "v1", "served": true, "storage": true, "subresources": {"status": {}}},
                {"name": "v1beta1", "served": true, "storage": false,
                 "subresources": {"status": {}}},
            ],
        },
    });
    server.create("admin", crd).unwrap();
    let thing = json!({"apiVersion": "example.io/v1beta1", "kind": "Thing",
                       "metadata": {"name": "t"}, "spec": {"a": 1}, "status": {"b": 2}});
    let made = server.create("admin", thing).unwrap();
    assert!(made.get("status").is_none());
    let newer = ResourceKey::of("example.io", "v1", "things");
    let seen = server.get(&newer, "default", "t").unwrap();
    assert_eq!(seen["apiVersion"], "example.io/v1");
    server.delete("admin", &ResourceKey::CRDS, "", "things.example.io").unwrap();
    let gone = server.call(Call::new("admin", Verb::List, &newer)).unwrap_err();
    assert_eq!(gone.code, 404);
}

#[test]
fn an_event_reads_in_both_versions() {
    let server = server();
    let event = json!({
        "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "e"},
        "regarding": {"kind": "Pod", "name": "p", "namespace": "default"},
        "note": "hello", "reason": "Started", "type": "Normal", "action": "Start",
        "reportingController": "sluice", "reportingInstance": "sluice-0",
        "eventTime": "2026-01-01T00:00:00.000000Z",
    });
    server.create("admin", event).unwrap();
    let seen = server.get(&ResourceKey::EVENTS, "default", "e").unwrap();
    assert_eq!(seen["message"], "hello");
    assert_eq!(seen["involvedObject"]["name"], "p");
    let mut call = Call::new("admin", Verb::List, &ResourceKey::EVENTS).namespace("default");
    call.options.field_selector = Some("involvedObject.name=p,involvedObject.kind=Pod".into());
    assert_eq!(server.call(call.clone()).unwrap()["items"].as_array().unwrap().len(), 1);
    call.options.field_selector = Some("involvedObject.name=q".into());
    assert_eq!(server.call(call).unwrap()["items"].as_array().unwrap().len(), 0);
}

#[test]
fn changes_are_remembered_in_order() {
    let server = server();
    let from = server.resource_version();
    deploy(&server);
    server.delete("admin", &ResourceKey::DEPLOYMENTS, "default", "web").unwrap();
    let kinds: Vec<_> = server.changes_since(from).iter().map(|change| change.kind).collect();
    assert_eq!(kinds, [super::super::ChangeKind::Added, super::super::ChangeKind::Deleted]);
}

#[test]
fn label_selectors_choose_and_pages_continue() {
    let server = server();
    for (name, tier) in [("a", "front"), ("b", "back"), ("c", "front")] {
        let mut object = config(name);
        object["metadata"]["labels"] = json!({"tier": tier});
        server.create("admin", object).unwrap();
    }
    let names = |selector: &str| -> Vec<String> {
        let mut call = Call::new("admin", Verb::List, &CONFIG_MAPS).namespace("default");
        call.options.label_selector = Some(selector.to_owned());
        let list = server.call(call).unwrap();
        let items = list["items"].as_array().unwrap();
        items.iter().map(|o| o["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names("tier=front"), ["a", "c"]);
    assert_eq!(names("tier in (front,back),tier!=front"), ["b"]);
    assert_eq!(names("tier notin (front)"), ["b"]);
    assert_eq!(names("!tier"), Vec::<String>::new());
    assert_eq!(names("tier"), ["a", "b", "c"]);
    let mut call = Call::new("admin", Verb::List, &CONFIG_MAPS).namespace("default");
    call.options.limit = Some(2);
    let page = server.call(call.clone()).unwrap();
    assert_eq!(page["metadata"]["remainingItemCount"], 1);
    call.options.continue_token = page["metadata"]["continue"].as_str().map(str::to_owned);
    let last = server.call(call.clone()).unwrap();
    assert_eq!(last["items"][0]["metadata"]["name"], "c");
    server.create("admin", config("d")).unwrap();
    assert_eq!(server.call(call).unwrap_err().code, 410);
}
