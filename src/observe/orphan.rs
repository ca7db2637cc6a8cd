//! What is left when a Rollout is gone though the Gate still names it: its finalizer was forced off, it was
//! deleted while no release was under way, or it let the workload go in mid-release.

use super::world::World;
use crate::api::{GateSpec, KnobFields, Rollout, RolloutStatus};
use crate::rollout::{Action, Plan, Urgency};
use crate::workload::{DeploymentView, Write, deployment};

impl World {
    /// The plan that gives a workload back whose Rollout is gone: the user's fields first, then the entry.
    #[must_use]
    pub fn orphan(&self, namespace: &str, name: &str) -> Option<(Rollout, Plan)> {
        if self.blind().is_some()
            || self.rollouts.contains_key(&(namespace.to_owned(), name.to_owned()))
        {
            return None;
        }
        let gate = &self.gates.get(namespace)?.spec;
        let actions =
            self.gated(gate, namespace, name).or_else(|| self.let_go(gate, namespace, name))?;
        let mut rollout = Rollout::new(name, crate::api::RolloutSpec::default());
        rollout.metadata.namespace = Some(namespace.to_owned());
        let plan = Plan {
            status: RolloutStatus::default(),
            urgency: Urgency::None,
            actions,
            calls: Vec::new(),
            wake: None,
            waiting: None,
        };
        Some((rollout, plan))
    }

    /// The workload that the Rollout gates still.
    fn gated(&self, gate: &GateSpec, namespace: &str, name: &str) -> Option<Vec<Action>> {
        let mut entries = gate.deployments.iter();
        let (workload, entry) = entries.find(|(_, e)| e.rollout.as_deref() == Some(name))?;
        let mut actions = Vec::new();
        let view = self.deployment_view(workload, namespace);
        if let Some(view) = view.filter(|_| entry.release.is_some()) {
            let two = view.active().count() > 1;
            let user: KnobFields = entry.originals.clone().unwrap_or_default();
            if let Some(write) = deployment::give_back(&view, &user, true, two) {
                if two {
                    let left = Box::new(deployment::left_at_rest(&view, &user, name));
                    actions.push(Action::LetGo { workload: workload.clone(), left: Some(left) });
                }
                actions.push(written(&view, write));
            }
        }
        if actions.is_empty() {
            actions.push(Action::Gate { workload: workload.clone(), entry: None });
        }
        Some(actions)
    }

    /// A workload that was let go and has one ReplicaSet left: the user's surge, then the note on it. A
    /// Rollout that has it now sees to that itself.
    fn let_go(&self, gate: &GateSpec, namespace: &str, name: &str) -> Option<Vec<Action>> {
        let mut notes = gate.let_go.iter().filter(|(of, left)| {
            left.rollout.as_deref() == Some(name) && !gate.deployments.contains_key(*of)
        });
        notes.find_map(|(workload, left)| {
            let view = self.deployment_view(workload, namespace);
            let forget = Action::LetGo { workload: workload.clone(), left: None };
            let Some(view) = view else { return Some(vec![forget]) };
            if view.active().count() > 1 {
                return None;
            }
            let user = deployment::remembered(&view, left);
            let write = deployment::give_back(&view, &user, view.fields.paused, false);
            Some(vec![write.map_or(forget, |write| written(&view, write))])
        })
    }
}

fn written(view: &DeploymentView, write: Write) -> Action {
    Action::Workload {
        uid: view.uid.clone(),
        resource_version: view.resource_version.clone(),
        name: view.name.clone(),
        write,
    }
}
