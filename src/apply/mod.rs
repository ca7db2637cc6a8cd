//! Actions to API calls: the only room that writes to a cluster.
//!
//! Every write to an object of the user's carries its uid and resourceVersion, so that a stale decision
//! is refused by the API server and not carried out. Every write is idempotent: repeated after a crash,
//! it is the same object or a refusal that counts as done. The answers go back into the world at once,
//! so that no watch has to catch up first.

mod actions;
mod error;
mod events;
mod prove;
mod request;
mod wish;

pub use actions::{Seen, Target, run};
pub use error::{ApplyError, Class};
pub use events::{Regarding, tell};
pub use prove::prove;
pub use request::{Answer, Http};
pub use wish::wish;

/// The capability to write as the controller. Handed out while the Lease is held; there is no other way
/// to get one outside tests.
#[derive(Debug)]
pub struct Leading(());

impl Leading {
    /// Says that the caller holds the Lease, or that there can be no other controller.
    #[must_use]
    pub fn assume() -> Self {
        Self(())
    }
}

/// The capability to write as a person: the verbs of the command line.
#[derive(Debug)]
pub struct Operator(());

impl Operator {
    /// Says that a person asked for the write.
    #[must_use]
    pub fn acting() -> Self {
        Self(())
    }
}

/// Either of the two.
pub trait Writer: Sync {}

impl Writer for Leading {}
impl Writer for Operator {}
