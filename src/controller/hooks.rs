//! Calls of hooks: each a task of its own, so that a slow hook delays neither a rollback nor another
//! release. What a process knows of its calls is here and is lost with it; what must not be lost is in
//! the status before a call is made.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::SignedDuration;

use super::engine::{Engine, Outcome};
use crate::api::rollout::HookPoint;
use crate::api::status::{HookState, RolloutStatus};
use crate::observe::Key;
use crate::rollout::{HookAnswer, HookCall, HookCalled, HookSeen};

/// A call that was answered, or given up.
#[derive(Debug)]
pub struct Called {
    /// The Rollout's namespace.
    pub(super) namespace: String,
    /// The moment.
    pub(super) at: HookPoint,
    /// `ok`, `processing` or `error`.
    pub(super) answer: &'static str,
    /// From the call to the answer.
    pub(super) took: SignedDuration,
}

/// The calls of this process, by namespace and name of the Rollout and by decision.
#[derive(Default)]
pub(super) struct Calls(Mutex<BTreeMap<(String, String), BTreeMap<String, Known>>>);

/// One call.
struct Known {
    seen: HookSeen,
    /// What is to be sent, until somebody takes it.
    queued: Option<HookCall>,
}

impl Calls {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<(String, String), BTreeMap<String, Known>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of the calls of a Rollout.
    pub(super) fn seen(&self, namespace: &str, name: &str) -> BTreeMap<String, HookSeen> {
        let all = self.lock();
        let of_it = all.get(&(namespace.to_owned(), name.to_owned()));
        of_it.into_iter().flatten().map(|(id, known)| (id.clone(), known.seen.clone())).collect()
    }

    /// Takes the calls of a plan: to be made when it was carried out, else surely not made. Answers that
    /// `status` has taken in are forgotten.
    pub(super) fn take(
        &self,
        namespace: &str,
        name: &str,
        calls: Vec<HookCall>,
        status: &RolloutStatus,
        carried_out: bool,
    ) -> Vec<Key> {
        let mut all = self.lock();
        let of_it = all.entry((namespace.to_owned(), name.to_owned())).or_default();
        if carried_out {
            let waits = |id: &String| {
                let mut entries = status.hooks.iter();
                entries.any(|entry| entry.id == *id && entry.state == HookState::Calling)
            };
            of_it.retain(|id, known| known.queued.is_some() || waits(id));
        }
        let mut keys = Vec::new();
        for call in calls {
            let state = if carried_out { HookCalled::UnderWay } else { HookCalled::Unsent };
            let seen = HookSeen { number: call.number, state };
            if carried_out {
                let (namespace, name) = (namespace.to_owned(), name.to_owned());
                keys.push(Key::Hook { namespace, name, id: call.id.clone() });
            }
            let id = call.id.clone();
            of_it.insert(id, Known { seen, queued: carried_out.then_some(call) });
        }
        if of_it.is_empty() {
            all.remove(&(namespace.to_owned(), name.to_owned()));
        }
        keys
    }

    fn next(&self, namespace: &str, name: &str, id: &str) -> Option<HookCall> {
        let mut all = self.lock();
        all.get_mut(&(namespace.to_owned(), name.to_owned()))?.get_mut(id)?.queued.take()
    }

    fn answered(&self, namespace: &str, name: &str, id: &str, seen: HookSeen) {
        let mut all = self.lock();
        let of_it = all.get_mut(&(namespace.to_owned(), name.to_owned()));
        if let Some(known) = of_it.and_then(|calls| calls.get_mut(id)) {
            known.seen = seen;
        }
    }

    pub(super) fn forget(&self, namespace: &str, name: &str) {
        let mut all = self.lock();
        // What is still to be told after the Rollout's end is told.
        if let Some(of_it) = all.get_mut(&(namespace.to_owned(), name.to_owned())) {
            of_it.retain(|_, known| known.queued.is_some());
        }
    }
}

impl Engine {
    /// Makes one call.
    pub(super) async fn hook(&self, namespace: &str, name: &str, id: &str) -> Outcome {
        let mut outcome = Outcome::default();
        let Some(call) = self.calls.next(namespace, name, id) else { return outcome };
        let (client, now) = (self.client(), self.clock.now());
        let answer = self.hooks.call(client, namespace, &call, now).await;
        tracing::debug!(namespace, name, hook = call.name, ?answer, "a hook was called");
        outcome.called = Some(Called {
            namespace: namespace.to_owned(),
            at: call.at,
            answer: match answer {
                HookAnswer::Ok { .. } => "ok",
                HookAnswer::Processing { .. } => "processing",
                HookAnswer::Error { .. } => "error",
            },
            took: self.clock.now().duration_since(now),
        });
        let seen = HookSeen { number: call.number, state: HookCalled::Answered(answer) };
        self.calls.answered(namespace, name, id, seen);
        outcome.touched =
            vec![Key::Rollout { namespace: namespace.to_owned(), name: name.to_owned() }];
        outcome
    }
}
