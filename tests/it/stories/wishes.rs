//! The objects as their user wrote them: what must be there again when a story is over.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sluice::sim::scenario::{Deed, Objects};

use crate::world::written;

/// The user's objects by kind (`deployment`, `service`, `route`) and name.
#[derive(Debug, Clone, Default)]
pub struct Wishes {
    objects: BTreeMap<(&'static str, String), Value>,
    /// The first template.
    stable: Value,
    /// The Deployment with what its user allows; of several `minReadySeconds` the least.
    budget: Value,
    /// The Rollout takes the new version with it when it is deleted.
    goes_back: bool,
    /// The user has lifted the pause of a workload that was let go.
    resumed: bool,
}

/// The kind of the user's own objects.
fn kind_of(plural: &str) -> Option<&'static str> {
    match plural {
        "deployments" => Some("deployment"),
        "services" => Some("service"),
        "httproutes" => Some("route"),
        "grpcroutes" => Some("grpcroute"),
        _ => None,
    }
}

/// Fields that a server adds to the elements of a list are there also after somebody wrote the list anew.
fn keep_defaults(object: &mut Value, before: &Value) {
    match (object, before) {
        (Value::Object(is), Value::Object(was)) => {
            for (key, value) in is.iter_mut() {
                keep_defaults(value, was.get(key).unwrap_or(&Value::Null));
            }
        }
        (Value::Array(is), Value::Array(was)) => {
            for (item, before) in is.iter_mut().zip(was) {
                if let (Some(fields), Some(known)) = (item.as_object_mut(), before.as_object()) {
                    for (key, value) in known {
                        fields.entry(key.clone()).or_insert_with(|| value.clone());
                    }
                }
                keep_defaults(item, before);
            }
        }
        _ => {}
    }
}

/// Without values that say the same as nothing.
fn plain(object: &Value) -> Value {
    let mut object = written(object.clone());
    if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
        spec.retain(|key, value| {
            !(key == "paused" && *value == false || key == "minReadySeconds" && *value == 0)
        });
    }
    object
}

impl Wishes {
    /// The user has created this, and this is the answer.
    pub fn created(&mut self, plural: &str, answer: &Value) {
        if plural == "rollouts" {
            self.goes_back = answer["spec"]["onDelete"] == "Rollback";
        }
        let Some(kind) = kind_of(plural) else { return };
        let name = answer["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        if kind == "deployment" {
            self.stable = answer["spec"]["template"].clone();
            self.allow(answer);
        }
        self.objects.insert((kind, name), answer.clone());
    }

    /// The user does this, while objects are so.
    pub fn done(&mut self, deed: &Deed, objects: &Objects) {
        match deed {
            Deed::Delete { key, name } => {
                if let Some(kind) = kind_of(&key.plural) {
                    self.objects.remove(&(kind, name.clone()));
                }
            }
            Deed::Patch { key, body, .. } if key.plural == "rollouts" => {
                self.goes_back |= body["spec"]["onDelete"] == "Rollback";
            }
            Deed::Patch { key, name, body, .. } => {
                let Some(kind) = kind_of(&key.plural) else { return };
                let Some(object) = self.objects.get_mut(&(kind, name.clone())) else { return };
                let before = object.clone();
                json_patch::merge(object, body);
                keep_defaults(object, &before);
                let mut rollouts = objects.all("rollout");
                if rollouts.any(|rollout| !rollout["status"]["release"].is_null()) {
                    // A pause during a release is a pause of the release.
                    object["spec"]["paused"] = before["spec"]["paused"].clone();
                    if object["spec"]["paused"].is_null()
                        && let Some(spec) = object["spec"].as_object_mut()
                    {
                        spec.remove("paused");
                    }
                } else if body["spec"]["paused"] == false {
                    self.resumed = true;
                }
                if kind == "deployment" {
                    let object = object.clone();
                    self.allow(&object);
                }
            }
            _ => {}
        }
    }

    fn allow(&mut self, deployment: &Value) {
        let seconds = |object: &Value| object["spec"]["minReadySeconds"].as_i64().unwrap_or(0);
        let least = match &self.budget {
            Value::Null => seconds(deployment),
            known => seconds(known).min(seconds(deployment)),
        };
        self.budget = deployment.clone();
        self.budget["spec"]["minReadySeconds"] = json!(least);
    }

    /// The Deployment with the `maxSurge`, `maxUnavailable` and `minReadySeconds` that its user allows.
    pub fn budget(&self) -> &Value {
        &self.budget
    }

    /// What is not as the user wrote it, or left over of ours.
    pub fn unfulfilled(&self, objects: &Objects) -> Option<String> {
        for ((kind, name), wanted) in &self.objects {
            let Some(found) = objects.get(kind, name) else {
                return Some(format!("the {kind} {name} is gone"));
            };
            let (mut wanted, found) = (plain(wanted), plain(found));
            if *kind == "deployment" {
                self.except(&mut wanted, &found, objects);
            }
            if wanted != found {
                return Some(format!("the {kind} {name} is {found}\nand should be {wanted}"));
            }
        }
        let services = self.objects.keys().filter(|(kind, _)| *kind == "service").count();
        let there = objects.all("service").count();
        if there != services {
            return Some(format!("{there} Services, and the user's are {services}"));
        }
        left_over(objects)
    }

    /// What is not as the user wrote it by intent: after a rollback the template, and after letting go in
    /// the middle of a release the native word that holds it.
    fn except(&self, wanted: &mut Value, found: &Value, objects: &Objects) {
        let ended = |rollout: &&Value| {
            let at = rollout["status"]["lastRelease"]["endedAt"].as_str();
            at.unwrap_or_default().to_owned()
        };
        let last = objects.all("rollout").max_by_key(ended);
        let decision = last.map_or(&Value::Null, |r| &r["status"]["lastRelease"]["decision"]);
        let template = &found["spec"]["template"];
        let went_back = last.is_none() && self.goes_back && *template == self.stable;
        if decision == "RolledBack" || went_back {
            wanted["spec"]["template"] = self.stable.clone();
        }
        let let_go = last.is_none() || decision == "LetGo";
        if let_go {
            if !self.resumed && found["spec"]["paused"] == true {
                wanted["spec"]["paused"] = json!(true);
            }
            let surge = "/spec/strategy/rollingUpdate/maxSurge";
            let live = objects.all("replicaset").filter(|set| set["spec"]["replicas"] != 0);
            if live.count() > 1
                && found.pointer(surge) == Some(&json!(0))
                && let Some(wanted) = wanted.pointer_mut(surge)
            {
                *wanted = json!(0);
            }
        }
    }
}

/// What is left of a release that is over.
fn left_over(objects: &Objects) -> Option<String> {
    for gate in objects.all("gate") {
        for (name, entry) in gate["spec"]["deployments"].as_object().into_iter().flatten() {
            if !entry["release"].is_null() || !entry["originals"].is_null() {
                return Some(format!("the Gate's entry of {name}: {entry}"));
            }
        }
        let live = objects.all("replicaset").filter(|set| set["spec"]["replicas"] != 0);
        if live.count() < 2
            && !gate["spec"]["letGo"].as_object().is_none_or(serde_json::Map::is_empty)
        {
            return Some(format!("the Gate's notes {}", gate["spec"]["letGo"]));
        }
    }
    for rollout in objects.all("rollout") {
        let finalizers = &rollout["metadata"]["finalizers"];
        if finalizers.as_array().is_some_and(|all| !all.is_empty()) {
            return Some(format!("finalizers {finalizers}"));
        }
        if !rollout["status"]["release"].is_null() {
            return Some(format!("a release: {}", rollout["status"]["release"]));
        }
    }
    None
}
