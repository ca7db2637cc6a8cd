//! Whole sequences of a Deployment, with the sizes that the real controllers gave.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{Controllers, object};
use crate::clock::{Clock, SimClock};
use crate::sim::apiserver::{ApiServer, ResourceKey};
use crate::sim::kubelet::{Behaviours, Nodes, settle};

const NEVER: i64 = 2_147_483_646;
const NO_DEADLINE: i64 = 2_147_483_647;

struct World {
    clock: Arc<SimClock>,
    server: ApiServer,
    controllers: Controllers,
    nodes: Nodes,
}

fn world_with(behaviours: Behaviours) -> World {
    let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    let clock = Arc::new(SimClock::at(start));
    let server = ApiServer::new(clock.clone());
    let controllers = Controllers::new(server.clone());
    let nodes = Nodes::new(server.clone(), 3, behaviours);
    World { clock, server, controllers, nodes }
}

fn template(version: &str) -> Value {
    json!({
        "metadata": { "labels": { "app": "web" } },
        "spec": { "containers": [{ "name": "web", "image": format!("web:{version}") }] },
    })
}

/// A Deployment of ten pods of v1, all ready.
fn ten() -> World {
    ten_with(Behaviours::default())
}

fn ten_with(behaviours: Behaviours) -> World {
    let mut world = world_with(behaviours);
    let deployment = json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": { "name": "web", "namespace": "default" },
        "spec": {
            "replicas": 10,
            "selector": { "matchLabels": { "app": "web" } },
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": { "maxSurge": "25%", "maxUnavailable": "25%" },
            },
            "progressDeadlineSeconds": 600,
            "revisionHistoryLimit": 10,
            "template": template("v1"),
        },
    });
    world.server.create("admin", deployment).unwrap();
    world.settle();
    world.pass(60);
    world
}

impl World {
    fn settle(&mut self) {
        assert!(settle(&mut self.controllers, &mut self.nodes), "the cluster does not rest");
    }

    fn pass(&mut self, seconds: i64) {
        let end = self.clock.now() + SignedDuration::from_secs(seconds);
        loop {
            self.settle();
            let wakes = [self.controllers.next_wake(), self.nodes.next_wake()];
            match wakes.into_iter().flatten().min().filter(|wake| *wake <= end) {
                Some(wake) => self.clock.advance_to(wake),
                None => break,
            }
        }
        self.clock.advance_to(end);
        self.settle();
    }

    fn patch_only(&mut self, spec: Value) {
        let patch = json!({ "spec": spec });
        self.server
            .patch_merge("admin", &ResourceKey::DEPLOYMENTS, "default", "web", patch)
            .unwrap();
    }

    fn patch(&mut self, spec: Value) {
        self.patch_only(spec);
        self.settle();
    }

    fn knob(&mut self, unavailable: i64, surge: i64) {
        self.patch(json!({
            "paused": false,
            "minReadySeconds": NEVER,
            "progressDeadlineSeconds": NO_DEADLINE,
            "strategy": {
                "rollingUpdate": { "maxUnavailable": unavailable, "maxSurge": surge },
            },
        }));
    }

    fn rest(&mut self) {
        self.patch(json!({
            "paused": true,
            "minReadySeconds": 0,
            "progressDeadlineSeconds": 600,
            "strategy": { "rollingUpdate": { "maxUnavailable": 1, "maxSurge": 0 } },
        }));
    }

    /// A release at rest with `k` new pods.
    fn resting_at(k: i64) -> Self {
        let mut world = ten();
        world.patch(json!({ "paused": true, "template": template("v2") }));
        world.knob(k, 0);
        world.rest();
        world.pass(60);
        world
    }

    fn set(&self, version: &str) -> Option<Arc<Value>> {
        let image = format!("web:{version}");
        self.server
            .list(&ResourceKey::REPLICASETS, Some("default"))
            .into_iter()
            .find(|set| set["spec"]["template"]["spec"]["containers"][0]["image"] == image.as_str())
    }

    fn size(&self, version: &str) -> i64 {
        self.set(version).map_or(0, |set| set["spec"]["replicas"].as_i64().unwrap())
    }

    /// New pods, old pods.
    fn split(&self) -> (i64, i64) {
        (self.size("v2"), self.size("v1"))
    }

    fn deployment(&self) -> Arc<Value> {
        self.server.get(&ResourceKey::DEPLOYMENTS, "default", "web").unwrap()
    }

    fn status(&self, field: &str) -> i64 {
        object::count(&self.deployment(), &["status", field])
    }

    fn progressing(&self) -> String {
        let deployment = self.deployment();
        let condition = object::condition(&deployment, "Progressing");
        condition.map_or("none", |found| object::text(found, &["reason"])).to_owned()
    }

    /// The sizes of (v2, v1) after each write to a ReplicaSet since then.
    fn sequence(&self, since: u64) -> Vec<(i64, i64)> {
        let (mut new, mut old) = (0, 0);
        let mut sizes = Vec::new();
        for change in self.server.changes_since(0) {
            if change.resource != ResourceKey::REPLICASETS {
                continue;
            }
            let size = change.object["spec"]["replicas"].as_i64().unwrap();
            let image = &change.object["spec"]["template"]["spec"]["containers"][0]["image"];
            if image == "web:v2" {
                new = size
            } else {
                old = size
            }
            if change.rv > since && sizes.last() != Some(&(new, old)) {
                sizes.push((new, old));
            }
        }
        sizes
    }
}

#[test]
fn a_new_deployment_gets_all_its_pods_and_a_complete_status() {
    let world = ten();
    assert_eq!(world.size("v1"), 10);
    for field in ["replicas", "updatedReplicas", "readyReplicas", "availableReplicas"] {
        assert_eq!(world.status(field), 10, "{field}");
    }
    let deployment = world.deployment();
    assert_eq!(deployment["status"]["terminatingReplicas"], 0);
    assert_eq!(deployment["status"].get("unavailableReplicas"), None);
    assert_eq!(deployment["status"]["observedGeneration"], 1);
    assert_eq!(deployment["metadata"]["generation"], 1, "the revision is not the user's change");
    assert_eq!(world.progressing(), "NewReplicaSetAvailable");
    let revision = object::annotation(&deployment, "deployment.kubernetes.io/revision");
    assert_eq!(revision, Some("1"));
    let set = world.set("v1").unwrap();
    assert_eq!(object::annotation(&set, "deployment.kubernetes.io/desired-replicas"), Some("10"));
    assert_eq!(object::annotation(&set, "deployment.kubernetes.io/max-replicas"), Some("13"));
}

#[test]
fn a_paused_deployment_starts_no_pod_of_a_new_template() {
    let mut world = ten();
    world.patch(json!({ "paused": true, "template": template("v2") }));
    world.pass(60);
    assert!(world.set("v2").is_none());
    assert_eq!(world.progressing(), "DeploymentPaused");
    assert_eq!(world.status("updatedReplicas"), 0);
    assert_eq!(world.status("availableReplicas"), 10);
}

#[test]
fn the_knob_with_a_surge_of_one_moves_three_of_ten_pod_by_pod() {
    let mut world = ten();
    world.patch(json!({ "paused": true, "template": template("v2") }));
    let mut seen = Vec::new();
    for (unavailable, surge) in [(0, 1), (1, 1), (2, 1), (3, 0)] {
        world.knob(unavailable, surge);
        world.pass(5);
        seen.push(world.split());
    }
    assert_eq!(seen, [(1, 10), (2, 9), (3, 8), (3, 7)]);
}

#[test]
fn the_knob_without_surge_moves_exactly_k_and_nothing_moves_later() {
    for k in 1..10 {
        let mut world = ten();
        world.patch(json!({ "paused": true, "template": template("v2") }));
        world.knob(k, 0);
        world.pass(100_000);
        assert_eq!(world.split(), (k, 10 - k));
    }
}

#[test]
fn at_rest_scaling_keeps_the_share() {
    let mut world = World::resting_at(2);
    assert_eq!(world.split(), (2, 8));
    let mut seen = Vec::new();
    for replicas in [20, 4, 10] {
        world.patch(json!({ "replicas": replicas }));
        world.pass(5);
        seen.push(world.split());
    }
    assert_eq!(seen, [(4, 16), (1, 3), (2, 8)]);
}

#[test]
fn at_rest_new_pods_count_as_available_again() {
    let world = World::resting_at(4);
    assert_eq!(world.status("availableReplicas"), 10);
    assert_eq!(world.status("updatedReplicas"), 4);
}

#[test]
fn leaving_the_rest_in_one_write_overshoots() {
    let mut world = World::resting_at(2);
    world.knob(4, 0);
    world.pass(5);
    assert_eq!(world.split(), (6, 4));
}

#[test]
fn leaving_the_rest_in_two_writes_does_not() {
    let mut world = World::resting_at(2);
    world.patch(json!({ "minReadySeconds": NEVER }));
    assert_eq!(object::count(&world.set("v2").unwrap(), &["status", "availableReplicas"]), 0);
    world.knob(4, 0);
    world.pass(5);
    assert_eq!(world.split(), (4, 6));
}

#[test]
fn at_rest_scaled_to_nothing_and_back_all_are_new() {
    let mut world = World::resting_at(2);
    world.patch(json!({ "replicas": 0 }));
    assert_eq!(world.split(), (0, 0));
    world.patch(json!({ "replicas": 10 }));
    world.pass(5);
    assert_eq!(world.split(), (10, 0));
}

#[test]
fn under_the_knob_one_pod_at_a_time_goes_back_by_the_replicasets() {
    let mut world = ten();
    world.patch(json!({ "paused": true, "template": template("v2") }));
    world.knob(4, 0);
    let mut seen = vec![world.split()];
    for left in [3, 2, 1] {
        world.knob(left, 0);
        for (version, size) in [("v1", 10 - left), ("v2", left)] {
            let name = object::name(&world.set(version).unwrap()).to_owned();
            let patch = json!({ "spec": { "replicas": size } });
            world
                .server
                .patch_merge("admin", &ResourceKey::REPLICASETS, "default", &name, patch)
                .unwrap();
            world.pass(5);
        }
        seen.push(world.split());
    }
    assert_eq!(seen, [(4, 6), (3, 7), (2, 8), (1, 9)]);
}

#[test]
fn an_undo_under_the_knob_leaves_no_pod_available() {
    let mut world = ten();
    world.patch(json!({ "paused": true, "template": template("v2") }));
    world.knob(3, 0);
    world.patch(json!({ "template": template("v1") }));
    world.pass(5);
    assert_eq!(world.status("availableReplicas"), 0);
    world.patch(json!({ "minReadySeconds": 0 }));
    world.pass(5);
    assert_eq!(world.status("availableReplicas"), 10);
    assert_eq!(world.split(), (0, 10));
}

#[test]
fn a_rollback_from_the_rest_is_clean() {
    let mut world = World::resting_at(4);
    world.patch(json!({ "template": template("v1") }));
    assert_eq!(world.split(), (4, 6), "still paused");
    world.patch(json!({
        "paused": false,
        "strategy": { "rollingUpdate": { "maxUnavailable": "25%", "maxSurge": "25%" } },
    }));
    world.pass(5);
    assert_eq!(world.split(), (0, 10));
    assert_eq!(world.progressing(), "NewReplicaSetAvailable");
    let deployment = world.deployment();
    let revision = object::annotation(&deployment, "deployment.kubernetes.io/revision");
    assert_eq!(revision, Some("3"));
    let history = "deployment.kubernetes.io/revision-history";
    assert_eq!(object::annotation(&world.set("v1").unwrap(), history), Some("1"));
}

#[test]
fn a_third_version_replaces_a_marked_second_one_only() {
    for (k, first) in [(4, 6), (5, 5)] {
        let mut world = World::resting_at(4);
        world.patch(json!({ "template": template("v3") }));
        let name = object::name(&world.set("v2").unwrap()).to_owned();
        let mark = json!({ "spec": { "minReadySeconds": NEVER } });
        world
            .server
            .patch_merge("admin", &ResourceKey::REPLICASETS, "default", &name, mark)
            .unwrap();
        world.settle();
        let second = world.set("v2").unwrap();
        assert_eq!(object::count(&second, &["status", "availableReplicas"]), 0);
        world.knob(k, 0);
        world.pass(5);
        assert_eq!((world.size("v1"), world.size("v2"), world.size("v3")), (first, 0, k));
    }
}

#[test]
fn a_third_version_over_an_unmarked_second_one_takes_the_first() {
    let mut world = World::resting_at(4);
    world.patch(json!({ "template": template("v3") }));
    world.knob(4, 0);
    world.pass(5);
    assert_eq!((world.size("v1"), world.size("v2"), world.size("v3")), (2, 4, 4));
}

#[test]
fn a_rolling_update_surges_first_and_never_has_too_few() {
    let mut world = ten_with(Behaviours::default().ready_after(SignedDuration::from_secs(2)));
    let since = world.server.resource_version();
    world.patch_only(json!({ "template": template("v2") }));
    world.pass(60);
    let sizes = world.sequence(since);
    assert_eq!(sizes.first(), Some(&(3, 10)), "25 % of 10, rounded up");
    assert_eq!(sizes.get(1), Some(&(3, 8)), "25 % of 10, rounded down");
    assert_eq!(sizes.get(2), Some(&(5, 8)));
    assert_eq!(sizes.last(), Some(&(10, 0)));
    assert!(sizes.iter().all(|(new, old)| new + old <= 13), "{sizes:?}");
}

#[test]
fn a_deadline_that_passes_is_reported_once_and_a_pause_stops_the_watch() {
    let mut world = ten();
    world.patch(json!({
        "progressDeadlineSeconds": 100,
        "template": template("v2-never-ready"),
    }));
    world.pass(90);
    assert_eq!(world.progressing(), "ReplicaSetUpdated");
    world.pass(20);
    assert_eq!(world.progressing(), "ProgressDeadlineExceeded");
    assert_eq!((world.size("v2-never-ready"), world.size("v1")), (5, 8));
    world.patch(json!({ "template": template("v3-never-ready"), "paused": true }));
    world.pass(1000);
    assert_eq!(world.progressing(), "ProgressDeadlineExceeded", "pausing does not forgive");
}

#[test]
fn a_pause_within_the_deadline_is_no_lack_of_progress() {
    let mut world = ten();
    world.patch(json!({ "progressDeadlineSeconds": 100, "template": template("v2-never-ready") }));
    world.pass(50);
    world.patch(json!({ "paused": true }));
    world.pass(1000);
    assert_eq!(world.progressing(), "DeploymentPaused");
    world.patch(json!({ "paused": false }));
    assert_eq!(world.progressing(), "DeploymentResumed");
    world.pass(102);
    assert_eq!(world.progressing(), "ProgressDeadlineExceeded");
}

#[test]
fn the_users_min_ready_seconds_delay_availability() {
    let mut world = ten();
    world.patch(json!({ "minReadySeconds": 30, "template": template("v2") }));
    assert_eq!(world.split(), (5, 8));
    world.pass(29);
    assert_eq!(world.split(), (5, 8));
    world.pass(1);
    assert_eq!(world.split(), (10, 3));
    world.pass(60);
    assert_eq!(world.split(), (10, 0));
}

#[test]
fn recreate_stops_every_old_pod_before_the_first_new_one() {
    let mut world = ten();
    let since = world.server.resource_version();
    world.patch(json!({
        "strategy": { "type": "Recreate", "rollingUpdate": null },
        "template": template("v2"),
    }));
    assert_eq!(world.sequence(since), [(0, 0), (10, 0)]);
}

#[test]
fn old_replicasets_beyond_the_history_limit_are_deleted() {
    let mut world = ten();
    world.patch(json!({ "revisionHistoryLimit": 2 }));
    for version in ["v2", "v3", "v4", "v5"] {
        world.patch(json!({ "template": template(version) }));
        world.pass(10);
    }
    let left = world.server.list(&ResourceKey::REPLICASETS, Some("default"));
    assert_eq!(left.len(), 3);
    assert!(world.set("v2").is_none() && world.set("v5").is_some());
}

#[test]
fn an_orphan_replicaset_is_adopted_by_its_deployment() {
    let mut world = ten();
    let set = world.set("v1").unwrap();
    let name = object::name(&set).to_owned();
    let patch = json!({ "metadata": { "ownerReferences": null } });
    let resource = ResourceKey::REPLICASETS;
    world.server.patch_merge("admin", &resource, "default", &name, patch).unwrap();
    world.settle();
    let set = world.set("v1").unwrap();
    let owner = object::controller_of(&set).unwrap();
    assert_eq!(owner["uid"], world.deployment()["metadata"]["uid"]);
    assert_eq!(world.server.list(&resource, Some("default")).len(), 1);
}

#[test]
fn scaling_is_told_in_events() {
    let world = ten();
    let events = world.server.list(&ResourceKey::EVENTS, Some("default"));
    assert_eq!(events.len(), 1);
    assert_eq!(events[0]["reason"], "ScalingReplicaSet");
    let name = object::name(&world.set("v1").unwrap()).to_owned();
    let message = format!("Scaled up replica set {name} from 0 to 10");
    assert_eq!(events[0]["message"], message.as_str());
}

#[test]
fn a_deleted_pod_is_replaced_and_counted_as_terminating_meanwhile() {
    let mut world = ten_with(Behaviours::default().stop_after(SignedDuration::from_secs(5)));
    let pods = world.server.list(&ResourceKey::PODS, Some("default"));
    let name = object::name(&pods[0]).to_owned();
    world.server.delete("admin", &ResourceKey::PODS, "default", &name).unwrap();
    world.settle();
    assert_eq!(world.status("terminatingReplicas"), 1);
    assert_eq!(world.status("availableReplicas"), 10);
    world.pass(6);
    assert_eq!(world.status("terminatingReplicas"), 0);
    assert_eq!(world.server.list(&ResourceKey::PODS, Some("default")).len(), 10);
}
