//! What is taken for gone, for absent and for somebody else's.

use serde_json::{Value, json};

use super::{Kind, Unlisted, World};
use crate::api::status::ReleaseStatus;
use crate::rollout::{Proof, Refusal};

fn rollout(name: &str, uid: &str, version: u64, more: &Value) -> Value {
    let mut object = json!({
        "apiVersion": "sluice.dev/v1beta1", "kind": "Rollout",
        "metadata": {"name": name, "namespace": "default", "uid": uid,
            "resourceVersion": version.to_string(), "finalizers": ["sluice.dev/rollout"],
            "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {
            "workloadRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
            "strategy": {"canary": {"steps": [{"replicas": "50%"}]}},
        },
    });
    json_patch::merge(&mut object, more);
    object
}

fn going(name: &str, more: &Value) -> Value {
    let mut object = rollout(name, "old", 5, more);
    object["metadata"]["deletionTimestamp"] = json!("2026-01-02T00:00:00Z");
    object
}

fn release(notes: &Value) -> Value {
    let notes = Some(notes.to_string());
    json!({"status": {"release": ReleaseStatus { traffic_notes: notes, ..ReleaseStatus::default() }}})
}

fn rival(world: &World, name: &str) -> Option<String> {
    world.snapshot("default", name, "sluice").unwrap().rival
}

fn refusal(world: &World) -> Option<Refusal> {
    world.snapshot("default", "web", "sluice").unwrap().refusal
}

#[test]
fn an_answer_that_comes_after_the_deletion_brings_nothing_back() {
    let mut world = World::new();
    let seen = rollout("web", "u", 5, &json!({}));
    world.apply(Kind::Rollout, &seen);
    world.delete(Kind::Rollout, &rollout("web", "u", 7, &json!({})));
    for late in [5, 6, 7] {
        world.apply(Kind::Rollout, &rollout("web", "u", late, &json!({})));
        assert!(world.snapshot("default", "web", "sluice").is_none(), "version {late}");
    }
    world.apply(Kind::Rollout, &rollout("web", "another", 8, &json!({})));
    assert!(world.snapshot("default", "web", "sluice").is_some(), "made again");
}

#[test]
fn the_answer_that_takes_the_last_finalizer_of_what_is_deleted_is_its_end() {
    let mut world = World::new();
    world.apply(Kind::Rollout, &rollout("web", "old", 5, &json!({})));
    let mut last = going("web", &json!({"metadata": {"finalizers": null}}));
    last["metadata"]["resourceVersion"] = json!("6");
    assert!(!world.apply(Kind::Rollout, &last).is_empty(), "who waits for it is looked at");
    assert!(world.snapshot("default", "web", "sluice").is_none());
}

#[test]
fn an_object_that_a_list_has_missed_comes_back_with_its_event() {
    let mut world = World::new();
    world.apply(Kind::Rollout, &rollout("web", "u", 5, &json!({})));
    world.retain(Kind::Rollout, &std::collections::BTreeSet::new());
    world.apply(Kind::Rollout, &rollout("web", "u", 5, &json!({})));
    assert!(world.snapshot("default", "web", "sluice").is_some());
}

#[test]
fn a_rollout_that_goes_has_the_workload_until_its_release_is_over() {
    let mut world = World::new();
    let mut young = rollout("young", "y", 9, &json!({}));
    young["metadata"]["creationTimestamp"] = json!("2026-01-03T00:00:00Z");
    world.apply(Kind::Rollout, &young);
    world.apply(Kind::Rollout, &going("old", &release(&json!({}))));
    assert_eq!(rival(&world, "young").as_deref(), Some("old"));
    world.apply(Kind::Rollout, &going("old", &json!({"metadata": {"resourceVersion": "6"}})));
    assert_eq!(rival(&world, "young"), None);
}

#[test]
fn a_kind_that_may_not_be_listed_is_not_taken_for_one_without_objects() {
    let mut world = World::new();
    world.apply(Kind::Rollout, &rollout("web", "u", 5, &json!({})));
    assert_eq!(refusal(&world), None);
    world.cannot_list(Kind::Gate, Unlisted::Holds("may not list gates".to_owned()));
    assert_eq!(refusal(&world), Some(Refusal::Read("may not list gates".to_owned())));
    let keys = world.retain(Kind::Gate, &std::collections::BTreeSet::new());
    assert!(!keys.is_empty(), "what waited for it is looked at");
    assert_eq!(refusal(&world), None);
}

#[test]
fn routes_that_are_not_served_hold_only_a_release_that_has_changed_one() {
    let mut world = World::new();
    let absent = || Unlisted::Absent("not served".to_owned());
    world.cannot_list(Kind::GrpcRoute, absent());
    for (version, key, holds) in [(5, "web", false), (6, "GRPCRoute/web", true)] {
        let notes = json!({"routes": {key: {"service": "web"}}});
        world.apply(Kind::Rollout, &rollout("web", "u", version, &release(&notes)));
        let wanted = holds.then(|| Refusal::Read("not served".to_owned()));
        assert_eq!(refusal(&world), wanted, "{key}");
    }
    world.apply(Kind::Rollout, &rollout("web", "u", 7, &json!({})));
    assert_eq!(refusal(&world), None);
}

#[test]
fn dry_runs_that_go_through_one_after_the_other_are_counted_from_the_first() {
    let mut world = World::new();
    let web = || ("default".to_owned(), "web".to_owned());
    let at = |second| jiff::Timestamp::from_second(second).unwrap();
    let went_through = |second| {
        let tried = Some((at(second), at(second)));
        Proof::NotHeld { reason: "a dry run".into(), tried }
    };
    let tried = |world: &World| match &world.proofs[&web()].1 {
        Proof::NotHeld { tried, .. } => *tried,
        _ => None,
    };
    for second in [10, 12, 20] {
        world.proven(web(), went_through(second));
        assert_eq!(tried(&world), Some((at(10), at(second))));
    }
    world.proven(web(), Proof::Held { at: at(30) });
    world.proven(web(), went_through(40));
    assert_eq!(tried(&world), Some((at(40), at(40))));
}
