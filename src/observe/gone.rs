//! What was deleted: an answer to a write that comes after it brings nothing back.

use std::collections::{BTreeMap, VecDeque};

use super::objects::{Kind, Object};

/// Objects that are remembered after their end. An answer is late by half a minute at most.
const KEPT: usize = 1_024;

/// Objects that are gone, by uid, with the last version that was seen of each.
#[derive(Debug, Default)]
pub(super) struct Gone {
    versions: BTreeMap<String, u64>,
    order: VecDeque<String>,
}

impl Gone {
    /// Remembers the end of an object. Nobody here writes pods and slices, which are the many.
    pub(super) fn bury(&mut self, kind: Kind, object: &Object) {
        if matches!(kind, Kind::Pod | Kind::EndpointSlice) || object.uid.is_empty() {
            return;
        }
        if self.versions.insert(object.uid.clone(), object.version).is_none() {
            self.order.push_back(object.uid.clone());
        }
        if self.order.len() > KEPT
            && let Some(oldest) = self.order.pop_front()
        {
            self.versions.remove(&oldest);
        }
    }

    /// Whether this is the past of an object that is gone.
    pub(super) fn covers(&self, object: &Object) -> bool {
        self.versions.get(&object.uid).is_some_and(|last| object.version <= *last)
    }
}
