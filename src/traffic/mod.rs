//! Pure: desired weights, matches and mirrors to the edited route, and back to the original.
//!
//! What is edited: `HTTPRoute` and `GRPCRoute` of the Gateway API ([`gateway`]), and Services
//! ([`service`]). Objects are JSON values, because a typed struct would drop the fields that it
//! does not know, and whatever is written back must hold every field of the user's.
//!
//! The one idea: every edit starts from the *clean* route, which is what is left when everything of
//! ours is taken out of the route as it is now. Nothing piles up, a step may follow any other, and
//! a user's edit made in between survives. What is ours is told without guessing: a rule whose
//! backendRefs all name the canary Service, a backendRef to it, and a `RequestMirror` filter to it.
//! The only thing that cannot be read back are the weights before the split; they are in
//! [`RouteNotes`]. **Store the notes before the route is written, and drop them only when the
//! restored route has been seen**; then no crash loses a weight.
//!
//! What a rule reads like at 10 %, with a second backend of the user's beside the service:
//!
//! ```yaml
//! backendRefs:                    # was: web weight 3, legacy weight 1
//! - {name: web, weight: 270}
//! - {name: web-canary, weight: 30}
//! - {name: legacy, weight: 100}   # still a quarter
//! ```
//!
//! Differs from Kruise, on purpose: original weights come back (there they become 1); other
//! backends keep their proportion; a step with matches after a step with a weight keeps the stable
//! rules (there they are lost); match rules stand *before* the user's rule (there at the end); a
//! match on a path is combined with each rule's own path (there it stands alone on the first rule);
//! `requestHeaderModifier` works (there it is ignored); a missing weight (there -1) with no matches
//! is the stable route; "verified" means that every parent has accepted this generation
//! ([`accepted()`]).
//!
//! Refuses: to write more rules, matches, headers or filters than the Gateway API allows, to
//! combine what it cannot prove, to take over a Service or a rule that it did not make.

pub mod accepted;
pub mod error;
mod filters;
pub mod gateway;
mod limits;
mod matches;
pub mod notes;
mod paths;
mod refs;
pub mod service;
pub mod split;
mod weights;

pub use accepted::{Acceptance, accepted};
pub use error::{RouteError, ServiceError};
pub use gateway::{
    Observed, Reach, apply_route, check_route, observed_split, reach, restore_route, rival,
};
pub use notes::{RouteNotes, RuleNote};
pub use service::{canary_service, check_canary_service, check_service, pin, pinned_to, unpin};
pub use split::{ServicePair, Split};

#[cfg(test)]
mod properties;
#[cfg(test)]
mod refusals;
#[cfg(test)]
mod tests;
