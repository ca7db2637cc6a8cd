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
        let cleaned = self.clean_unhealthy(&mut old, most);
        let available = old.iter().map(Set::available).sum::<i64>() + new.available();
        let spare = available - self.wanted.min_available();
        let scaled = self.shrink(&old, spare, |old| old.replicas);
        cleaned + scaled.iter().map(|(_, by)| by).sum::<i64>() > 0
    }

    /// Takes down old pods that are not available, oldest ReplicaSet first.
    fn clean_unhealthy(&mut self, old: &mut [Set], most: i64) -> i64 {
        let shrunk = self.shrink(old, most, |old| old.replicas - old.available());
        let mut total = 0;
        for (set, by) in shrunk {
            if let Some(own) = old.iter_mut().find(|own| own.uid() == set.uid()) {
                *own = set;
            }
            total += by;
        }
        total
    }

    /// Shrinks the ReplicaSets in turn, each by at most `of` it, together by at most `most`.
    fn shrink(&mut self, old: &[Set], most: i64, of: fn(&Set) -> i64) -> Vec<(Set, i64)> {
        let mut shrunk = Vec::new();
        let mut left = most;
        for set in old.iter().filter(|set| set.replicas > 0) {
            let by = left.min(of(set));
            if left <= 0 {
                break;
            }
            if by > 0 {
                shrunk.push((self.resize(set, set.replicas - by, false).0, by));
                left -= by;
            }
        }
        shrunk
    }
}
