//! Old ReplicaSets beyond the history limit go.

use std::sync::Arc;

use super::super::object::{self, Write};
use super::Sync;
use super::view::Set;

impl Sync {
    /// Deletes the oldest revisions beyond the limit; one that still has or wants pods stays.
    pub(super) fn clean_history(&mut self, old: &[Set]) {
        let Some(limit) = self.wanted.history.and_then(|limit| usize::try_from(limit).ok()) else {
            return;
        };
        let mut alive: Vec<&Set> =
            old.iter().filter(|set| !object::is_deleting(&set.object)).collect();
        alive.sort_by_key(|set| (set.revision(), set.age()));
        let excess = alive.len().saturating_sub(limit);
        for set in alive.into_iter().take(excess) {
            let is_seen = object::generation(&set.object) <= set.status("observedGeneration");
            if set.status("replicas") == 0 && set.replicas == 0 && is_seen {
                self.out.writes.push(Write::Delete(Arc::clone(&set.object)));
            }
        }
    }
}
