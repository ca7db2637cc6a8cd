//! Kinds that could not be listed: what is not seen of them may be there all the same.

use std::collections::BTreeSet;

use super::objects::Kind;
use super::world::World;
use crate::rollout::Refusal;

/// A kind that could not be listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unlisted {
    /// Nothing is decided without it; why, in a sentence.
    Holds(String),
    /// It is not served, so there is none; why, in a sentence. A release that has changed one waits for it.
    Absent(String),
}

impl World {
    /// Notes that a kind could not be listed. The next list of it, in [`World::retain`], ends that.
    pub fn cannot_list(&mut self, kind: Kind, why: Unlisted) {
        self.unlisted.insert(kind, why);
    }

    /// Why nothing can be decided, if nothing can.
    #[must_use]
    pub fn blind(&self) -> Option<String> {
        let all = self.unlisted.values().filter_map(|why| match why {
            Unlisted::Holds(why) => Some(why.as_str()),
            Unlisted::Absent(_) => None,
        });
        let all: Vec<&str> = all.collect();
        (!all.is_empty()).then(|| all.join("; "))
    }

    /// Whether each of these kinds is known not to be listed.
    #[must_use]
    pub fn are_unlisted(&self, kinds: &BTreeSet<Kind>) -> bool {
        kinds.iter().all(|kind| self.unlisted.contains_key(kind))
    }

    /// What must be read before a Rollout can be planned that has changed objects of the kinds `noted`.
    pub(super) fn unread(&self, mut noted: impl Iterator<Item = Kind>) -> Option<Refusal> {
        let why = self.blind().or_else(|| {
            let (Unlisted::Holds(why) | Unlisted::Absent(why)) =
                noted.find_map(|kind| self.unlisted.get(&kind))?;
            Some(why.clone())
        });
        why.map(Refusal::Read)
    }
}
