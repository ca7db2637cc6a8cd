//! Stores to Snapshot: everything that was seen of the cluster, and what belongs to one Rollout of it.
//!
//! [`World`] is a synchronous index, fed by watches, by the answers to our own writes and, in the
//! simulator, by the store itself. An object that is older than the one that is held is dropped, so a
//! lagging watch never brings a state back that we have already acted on. No request is made here.

mod gone;
mod objects;
mod orphan;
mod snapshot;
mod templates;
mod unlisted;
mod world;

#[cfg(test)]
mod tests;

pub use objects::{GatePolicy, Kind, Object, Version};
pub use templates::{TemplateHead, TemplateView};
pub use unlisted::Unlisted;
pub use world::{Key, World};
