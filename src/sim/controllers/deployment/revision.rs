//! The ReplicaSet of the current template: found, kept in step with its Deployment, or created.

use std::sync::Arc;

use serde_json::{Value, json};

use super::super::object::{self, Write, annotate, annotation, at};
use super::view::{DESIRED, HISTORY, MAX, REVISION, Set};
use super::{Sets, Step, Sync, status};

const HASH_LABEL: &str = "pod-template-hash";

/// The revision history annotation is cut to this many characters.
const HISTORY_CHARACTERS: usize = 2000;

/// Annotations of a Deployment that its ReplicaSets do not get.
const NOT_COPIED: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    HISTORY,
    DESIRED,
    MAX,
    "deprecated.deployment.rollback.to",
];

impl Sync {
    /// The Deployment's ReplicaSets. The new one takes over the Deployment's annotations, revision
    /// and `minReadySeconds`, also while the Deployment is paused.
    pub(super) fn sets(&mut self, may_create: bool) -> Step<Sets> {
        let template = self.deployment.pointer("/spec/template").unwrap_or(&Value::Null);
        let found = self.owned.iter().position(|set| {
            set.object.pointer("/spec/template").is_some_and(|own| equal_but_hash(own, template))
        });
        let mut old = self.owned.clone();
        let new = found.map(|index| old.remove(index));
        let revision = old.iter().filter_map(Set::revision).max().unwrap_or(0).max(0) + 1;
        let new = match new {
            Some(new) => Some(self.keep_in_step(new, revision)?),
            None if may_create => Some(self.create(&old, revision)?),
            None => None,
        };
        Ok(Sets { new, old })
    }

    fn keep_in_step(&mut self, set: Set, revision: i64) -> Step<Set> {
        let min_ready = object::count(&set.object, &["spec", "minReadySeconds"]);
        let is_annotated = has_annotations(&self.deployment, &set.object)
            && set.revision().is_none_or(|own| own >= revision);
        if !is_annotated || min_ready != self.wanted.min_ready {
            let mut changed = (*set.object).clone();
            copy_annotations(&self.deployment, &mut changed);
            raise_revision(&mut changed, revision);
            object::set(&mut changed, &["spec", "minReadySeconds"], self.wanted.min_ready.into());
            let changed = Set::read(Arc::new(changed));
            self.out.writes.push(Write::Update(Arc::clone(&changed.object)));
            return Ok(changed);
        }
        let own = annotation(&set.object, REVISION).unwrap_or_default();
        let is_revised = annotation(&self.deployment, REVISION) == Some(own);
        let is_judged = self.wanted.deadline.is_none()
            || object::condition(&self.deployment, status::PROGRESSING).is_some();
        if is_revised && is_judged {
            return Ok(set);
        }
        let mut deployment = (*self.deployment).clone();
        annotate(&mut deployment, REVISION, own);
        if !is_judged {
            let message = format!("Found new replica set {:?}", set.name());
            self.note_progress(&mut deployment, "FoundNewReplicaSet", &message);
        }
        self.write_deployment(deployment)?;
        Ok(set)
    }

    fn create(&mut self, old: &[Set], revision: i64) -> Step<Set> {
        let mut template = self.deployment["spec"]["template"].clone();
        let hash = self.template_hash(&template);
        object::set(&mut template, &["metadata", "labels", HASH_LABEL], hash.as_str().into());
        let mut selector = self.deployment["spec"]["selector"].clone();
        object::set(&mut selector, &["matchLabels", HASH_LABEL], hash.as_str().into());
        let name = format!("{}-{hash}", object::name(&self.deployment));
        let total: i64 = old.iter().map(|set| set.replicas).sum();
        let replicas = self.new_size(total, 0);
        let mut set = json!({
            "apiVersion": "apps/v1",
            "kind": "ReplicaSet",
            "metadata": {
                "name": name,
                "namespace": object::namespace(&self.deployment),
                "labels": template["metadata"]["labels"],
                "ownerReferences": [object::controlled_by(&self.deployment)],
            },
            "spec": {
                "replicas": replicas,
                "minReadySeconds": self.wanted.min_ready,
                "selector": selector,
                "template": template,
            },
        });
        copy_annotations(&self.deployment, &mut set);
        raise_revision(&mut set, revision);
        self.note_sizes(&mut set);
        self.out.writes.push(Write::Create(set.clone()));
        if replicas > 0 {
            let message = format!("Scaled up replica set {name} from 0 to {replicas}");
            self.tell("ScalingReplicaSet", message);
        }
        let mut deployment = (*self.deployment).clone();
        let mut is_changed = annotate(&mut deployment, REVISION, &revision.to_string());
        if self.wanted.deadline.is_some() {
            let message = format!("Created new replica set {name:?}");
            self.note_progress(&mut deployment, "NewReplicaSetCreated", &message);
            is_changed = true;
        }
        if is_changed {
            self.write_deployment(deployment)?;
        }
        Ok(Set::read(Arc::new(set)))
    }

    fn template_hash(&self, template: &Value) -> String {
        let collisions = object::int(&self.deployment, &["status", "collisionCount"]);
        let salt = collisions.map(|count| count.to_string()).unwrap_or_default();
        let number = object::fnv(&[template.to_string().as_bytes(), salt.as_bytes()]);
        object::hash_letters(number)
    }

    /// Says whether the size annotations had to change.
    pub(super) fn note_sizes(&self, set: &mut Value) -> bool {
        let desired = self.wanted.replicas.to_string();
        let max = self.wanted.max_replicas().to_string();
        annotate(set, DESIRED, &desired) | annotate(set, MAX, &max)
    }
}

fn equal_but_hash(one: &Value, other: &Value) -> bool {
    let labels = |template| at(template, &["metadata", "labels"]).and_then(Value::as_object);
    let covers = |one, other| {
        labels(one).is_none_or(|own| {
            own.iter().filter(|(key, _)| *key != HASH_LABEL).all(|(key, value)| {
                labels(other).is_some_and(|others| others.get(key) == Some(value))
            })
        })
    };
    object::same(&one["spec"], &other["spec"])
        && object::same(&one["metadata"]["annotations"], &other["metadata"]["annotations"])
        && covers(one, other)
        && covers(other, one)
}

/// The Deployment's annotations that its ReplicaSets get.
fn copied(deployment: &Value) -> impl Iterator<Item = (&str, &str)> {
    let all = at(deployment, &["metadata", "annotations"]).and_then(Value::as_object);
    let all = all.into_iter().flatten();
    all.map(|(key, value)| (key.as_str(), value.as_str().unwrap_or_default()))
        .filter(|(key, _)| !NOT_COPIED.contains(key))
}

fn has_annotations(deployment: &Value, set: &Value) -> bool {
    copied(deployment).all(|(key, value)| annotation(set, key) == Some(value))
}

fn copy_annotations(deployment: &Value, set: &mut Value) {
    for (key, value) in copied(deployment) {
        annotate(set, key, value);
    }
}

/// Gives the ReplicaSet the revision if that is higher, and keeps the one it had in its history.
fn raise_revision(set: &mut Value, revision: i64) {
    let had = annotation(set, REVISION).map(str::to_owned);
    let number = had.as_deref().unwrap_or("0").parse::<i64>();
    if number.is_err() || number.is_ok_and(|number| number >= revision) {
        return;
    }
    annotate(set, REVISION, &revision.to_string());
    if let Some(had) = had {
        let history = annotation(set, HISTORY).unwrap_or_default();
        let mut kept: Vec<&str> = history.split(',').filter(|kept| !kept.is_empty()).collect();
        kept.push(&had);
        while kept.len() > 1 && kept.join(",").len() > HISTORY_CHARACTERS {
            kept.remove(0);
        }
        let kept = kept.join(",");
        annotate(set, HISTORY, &kept);
    }
}
