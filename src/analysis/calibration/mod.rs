//! Calibration: how high does the evidence climb when nothing has changed?
//!
//! [`Learner`] asks for windows of the service's past, one after the other, in which some of the stable
//! pods play the canary (see [`super::history`]), and makes a [`Learnt`] of them: the paths of the
//! evidence, the noise of gauges, how much pods differ, how long they take to warm up. A run takes its
//! [`Terms`] from that once, at its start, and carries them in its status. No client, no clock.
//!
//! What is promised: if the windows and a run without a change are exchangeable, the run is failed with
//! at most its alpha, whatever the noise. So windows are left out only by rules that know no evidence
//! ([`Unusable`](super::history::Unusable), and spans that the template names), and incidents stay in:
//! they will meet releases, too. Hours of the day are not told apart: a week has too few windows of each
//! for a level of 1 %, and who releases by day can leave the nights out. A guard tests whether new
//! windows still look like the old ones; when they do not, what is older is not used any more.

mod asked;
mod guard;
mod learn;
mod learnt;
mod terms;
mod young;

#[cfg(test)]
mod tests;

pub(crate) use asked::Calibrated;
pub(in crate::analysis) use asked::apply;
pub use asked::{NOT_ASKED, asked, begin, risk};
pub use learn::{Asked, Learner, Policy, Question};
pub use learnt::{Learnt, LearntError, LeftOut};
pub use terms::{Terms, TermsError, Wanted, terms};
