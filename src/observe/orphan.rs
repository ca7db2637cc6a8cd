//! What is left when a Rollout is gone though the Gate still names it: its finalizer was forced off, or
//! it was deleted while no release was under way.

use super::world::World;
use crate::api::{KnobFields, Rollout, RolloutStatus};
use crate::rollout::{Action, Plan, Urgency};
use crate::workload::deployment;

impl World {
    /// The plan that gives a workload back whose Rollout is gone: the user's fields first, then the entry.
    #[must_use]
    pub fn orphan(&self, namespace: &str, name: &str) -> Option<(Rollout, Plan)> {
        if self.rollouts.contains_key(&(namespace.to_owned(), name.to_owned())) {
            return None;
        }
        let gate = self.gates.get(namespace)?;
        let (workload, entry) = gate
            .spec
            .deployments
            .iter()
            .find(|(_, entry)| entry.rollout.as_deref() == Some(name))?;
        let view = self.deployment_view(workload, namespace);
        let write = view.as_ref().filter(|_| entry.release.is_some()).and_then(|view| {
            let two = view.active().count() > 1;
            let user: KnobFields = entry.originals.clone().unwrap_or_default();
            deployment::give_back(view, &user, true, two)
        });
        let action = match (write, view) {
            (Some(write), Some(view)) => Action::Workload {
                uid: view.uid.clone(),
                resource_version: view.resource_version.clone(),
                name: view.name.clone(),
                write,
            },
            _ => Action::Gate { workload: workload.clone(), entry: None },
        };
        let mut rollout = Rollout::new(name, crate::api::RolloutSpec::default());
        rollout.metadata.namespace = Some(namespace.to_owned());
        let plan = Plan {
            status: RolloutStatus::default(),
            urgency: Urgency::None,
            actions: vec![action],
            wake: None,
            waiting: None,
        };
        Some((rollout, plan))
    }
}
