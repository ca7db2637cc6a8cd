//! Who is to be woken when, the earliest first: each key has one time at most.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

/// Times by key.
#[derive(Debug)]
pub(crate) struct Alarms<K> {
    by_key: BTreeMap<K, Timestamp>,
    by_time: BTreeSet<(Timestamp, K)>,
}

impl<K> Default for Alarms<K> {
    fn default() -> Self {
        Self { by_key: BTreeMap::new(), by_time: BTreeSet::new() }
    }
}

impl<K: Ord + Clone> Alarms<K> {
    /// Wakes `key` at `at` and at no other time.
    pub(crate) fn set(&mut self, key: &K, at: Timestamp) {
        self.clear(key);
        self.by_key.insert(key.clone(), at);
        self.by_time.insert((at, key.clone()));
    }

    /// Lets `key` sleep.
    pub(crate) fn clear(&mut self, key: &K) {
        if let Some((key, at)) = self.by_key.remove_entry(key) {
            self.by_time.remove(&(at, key));
        }
    }

    /// The time of the next one.
    pub(crate) fn earliest(&self) -> Option<Timestamp> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// Takes out those whose time has come.
    pub(crate) fn take_due(&mut self, now: Timestamp) -> Vec<K> {
        let mut due = Vec::new();
        while self.earliest().is_some_and(|at| at <= now) {
            if let Some((_, key)) = self.by_time.pop_first() {
                self.by_key.remove(&key);
                due.push(key);
            }
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_woken_once_at_the_time_that_was_set_last() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut alarms = Alarms::default();
        alarms.set(&"b", at(3));
        alarms.set(&"a", at(9));
        alarms.set(&"a", at(2));
        alarms.set(&"c", at(1));
        alarms.clear(&"c");
        assert_eq!(alarms.earliest(), Some(at(2)));
        assert_eq!(alarms.take_due(at(3)), ["a", "b"]);
        assert_eq!(alarms.take_due(at(99)), Vec::<&str>::new());
        assert_eq!(alarms.earliest(), None);
    }
}
