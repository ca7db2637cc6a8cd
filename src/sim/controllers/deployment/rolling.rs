//! A rolling update: the new ReplicaSet up as far as the surge goes, the old ones down as far as
//! enough pods stay available.

use super::super::object;
use super::view::Set;
use super::{Sets, Step, Sync, status};

impl Sync {
    pub(super) fn roll(&mut self) -> Step<()> {
        let sets = self.sets(true)?;
        if self.grow_new(&sets) || self.shrink_old(&sets) {
            return self.sync_progress(&sets);
        }
        let before = object::at(&self.deployment, &["status"]);
        if before.is_some_and(|before| status::is_complete(&self.wanted, before)) {
            self.clean_history(&sets.old);
        }
        self.sync_progress(&sets)
    }

    /// The size that the new ReplicaSet may have when all together now have `total`.
    pub(super) fn new_size(&self, total: i64, current: i64) -> i64 {
        if !self.wanted.is_rolling {
            return self.wanted.replicas;
        }
        let room = self.wanted.max_replicas() - total;
        if room <= 0 {
            return current;
        }
        current + room.min(self.wanted.replicas - current)
    }

    fn grow_new(&mut self, sets: &Sets) -> bool {
        let Some(new) = &sets.new else { return false };
        let total = sets.all().map(|set| set.replicas).sum();
        let size = match new.replicas.cmp(&self.wanted.replicas) {
            std::cmp::Ordering::Equal => return false,
            std::cmp::Ordering::Greater => self.wanted.replicas,
            std::cmp::Ordering::Less => self.new_size(total, new.replicas),
        };
        self.resize(new, size, false).1
    }

    fn shrink_old(&mut self, sets: &Sets) -> bool {
        let Some(new) = &sets.new else { return false };
        let mut old: Vec<Set> = sets.old.iter().filter(|old| old.replicas > 0).cloned().collect();
        let total: i64 = sets.all().map(|set| set.replicas).sum();
        let new_unavailable = new.replicas - new.available();
        let most = total - self.wanted.min_available() - new_unavailable;
        if old.is_empty() || most <= 0 {
            return false;
        }
        let Some(cleaned) = self.clean_unhealthy(&mut old, most) else { return false };
        let available = old.iter().map(Set::available).sum::<i64>() + new.available();
        let spare = available - self.wanted.min_available();
        cleaned + self.shrink(&old, spare) > 0
    }

    /// Takes down old pods that are not available, oldest ReplicaSet first. None, and the sync
    /// shrinks nothing more, at a ReplicaSet whose status still counts more pods than it wants.
    fn clean_unhealthy(&mut self, old: &mut [Set], most: i64) -> Option<i64> {
        let mut cleaned = 0;
        for set in old.iter_mut() {
            let by = (set.replicas - set.available()).min(most - cleaned);
            if cleaned >= most || by == 0 {
                continue;
            }
            if by < 0 {
                return None;
            }
            *set = self.resize(set, set.replicas - by, false).0;
            cleaned += by;
        }
        Some(cleaned)
    }

    /// Takes down `most` old pods, oldest ReplicaSet first; says how many that were.
    fn shrink(&mut self, old: &[Set], most: i64) -> i64 {
        let mut left = most;
        for set in old.iter().filter(|set| set.replicas > 0) {
            if left <= 0 {
                break;
            }
            let by = left.min(set.replicas);
            self.resize(set, set.replicas - by, false);
            left -= by;
        }
        (most - left).max(0)
    }
}
