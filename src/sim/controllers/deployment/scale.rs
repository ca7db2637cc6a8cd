//! Sizes while a Deployment is paused or was scaled: every ReplicaSet keeps its share.

use std::cmp::Reverse;
use std::sync::Arc;

use super::super::object::{self, Write};
use super::view::{MAX, Set};
use super::{Sets, Sync};

impl Sync {
    /// The only active ReplicaSet (or the newest when none is) takes the whole size; a complete
    /// new one leaves nothing to the old; else all are scaled in proportion.
    pub(super) fn scale(&mut self, sets: &Sets) {
        let mut active: Vec<&Set> = sets.all().filter(|set| set.replicas > 0).collect();
        if active.len() < 2 {
            let newest = || sets.new.as_ref().or(sets.old.last());
            if let Some(set) = active.pop().or_else(newest) {
                self.resize(set, self.wanted.replicas, false);
            }
            return;
        }
        if sets.new.as_ref().is_some_and(|new| self.is_saturated(new)) {
            for old in sets.old.iter().rev().filter(|old| old.replicas > 0) {
                self.resize(old, 0, false);
            }
        } else if self.wanted.is_rolling {
            let sizes = self.proportions(&mut active);
            for (set, size) in active.iter().zip(sizes) {
                self.resize(set, size, true);
            }
        }
    }

    fn is_saturated(&self, new: &Set) -> bool {
        let size = self.wanted.replicas;
        new.replicas == size && new.desired() == Some(size) && new.available() == size
    }

    /// The new size of each; sorts them, largest first. What rounding leaves over goes to the
    /// largest.
    fn proportions(&self, active: &mut [&Set]) -> Vec<i64> {
        let total: i64 = active.iter().map(|set| set.replicas).sum();
        let allowed = if self.wanted.replicas > 0 { self.wanted.max_replicas() } else { 0 };
        let to_add = allowed - total;
        if to_add > 0 {
            active.sort_by_key(|set| Reverse((set.replicas, set.age())));
        } else if to_add < 0 {
            active.sort_by_key(|set| (Reverse(set.replicas), set.age()));
        }
        let mut added = 0;
        let mut sizes = Vec::with_capacity(active.len());
        for set in active.iter() {
            let left = to_add - added;
            let share = match left {
                0 => 0,
                _ if to_add > 0 => self.fraction(set).min(left),
                _ => self.fraction(set).max(left),
            };
            added += share;
            sizes.push(set.replicas + share);
        }
        if let Some(first) = sizes.first_mut() {
            *first = (*first + to_add - added).max(0);
        }
        sizes
    }

    /// How much the ReplicaSet would grow (or shrink) to keep its share of the whole.
    fn fraction(&self, set: &Set) -> i64 {
        if self.wanted.replicas == 0 {
            return -set.replicas;
        }
        let noted = set.number(MAX).filter(|max| *max > 0);
        let actual = || object::count(&self.deployment, &["status", "replicas"]);
        let before = noted.unwrap_or_else(actual);
        if before == 0 {
            return 0;
        }
        let product = set.replicas * self.wanted.max_replicas();
        (2 * product + before).div_euclid(2 * before) - set.replicas
    }

    /// Gives the ReplicaSet a size; with `notes` its size annotations are kept right even when the
    /// size is. Returns it as it is now, and whether its size changed.
    pub(super) fn resize(&mut self, set: &Set, size: i64, notes: bool) -> (Set, bool) {
        let is_resized = set.replicas != size;
        if !is_resized && !notes {
            return (set.clone(), false);
        }
        let mut changed = (*set.object).clone();
        let is_noted = self.note_sizes(&mut changed);
        if !is_resized && !is_noted {
            return (set.clone(), false);
        }
        object::set(&mut changed, &["spec", "replicas"], size.into());
        let changed = Set { object: Arc::new(changed), replicas: size };
        self.out.writes.push(Write::Update(Arc::clone(&changed.object)));
        if is_resized {
            let way = if set.replicas < size { "up" } else { "down" };
            let (name, from) = (set.name(), set.replicas);
            let message = format!("Scaled {way} replica set {name} from {from} to {size}");
            self.tell("ScalingReplicaSet", message);
        }
        (changed, is_resized)
    }
}
