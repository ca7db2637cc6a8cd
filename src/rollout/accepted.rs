//! The gateways' word on routes that are as they were written. Forward it is waited for; on the way back or
//! out only for a while.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::types::Who;
use super::{Draft, status};
use crate::traffic::{Acceptance, accepted};

/// So long the way back and the way out wait for the gateways' word on a route that is as it was written. A
/// router takes a route within seconds; who has said nothing by then, or refuses, may do so for ever (a
/// parent that nobody serves), and a version that failed must not stay for that.
const PATIENCE: SignedDuration = SignedDuration::from_secs(30);

/// Where traffic goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// To the new version: nothing goes on before the gateways have accepted the routes.
    Forward,
    /// To the stable version, or out of our hands: the gateways' word is waited for a while.
    Back,
}

/// What is heard of a release's routes in one pass.
pub(super) struct Words {
    way: Way,
    awaited: bool,
    overdue: bool,
    wrong: Vec<(&'static str, String)>,
}

impl Words {
    pub(super) fn on(way: Way) -> Self {
        Self { way, awaited: false, overdue: false, wrong: Vec::new() }
    }

    /// Hears the gateways of a route that is as it was written `since` then.
    pub(super) fn hear(&mut self, d: &mut Draft<'_>, route: &Value, since: Timestamp) {
        let name = title(route);
        let back = self.way == Way::Back;
        let (refused, text) = match accepted(route) {
            Acceptance::Accepted => return,
            // Nobody serves it, so there is nobody to wait for.
            Acceptance::Unserved if back => return,
            Acceptance::Unserved => (Some("RouteUnserved"), unserved(route)),
            Acceptance::Pending { why } => (None, format!("{name}: {why}")),
            Acceptance::Refused { parent, reason, message } => {
                (Some("RouteRefused"), format!("{parent} refuses {name}: {reason}: {message}"))
            }
        };
        let due = since.saturating_add(PATIENCE).unwrap_or(d.now);
        if back && d.now >= due {
            self.overdue = true;
            let after = PATIENCE.as_secs();
            let text = format!(
                "{text}: no longer waited for after {after}s, because the release goes back or out"
            );
            return self.wrong.push(("RouteNotAccepted", text));
        }
        self.awaited = true;
        if back {
            d.wake_at(Some(due));
        }
        d.wait(if back || refused.is_none() { Who::Router } else { Who::Person }, text.clone());
        self.wrong.extend(refused.map(|reason| (reason, text)));
    }

    /// Somebody was not waited for any longer: he may still send by the route before.
    pub(super) fn is_overdue(&self) -> bool {
        self.overdue
    }

    /// Says what is wrong, once. True when nobody is waited for.
    pub(super) fn end(self, d: &mut Draft<'_>) -> bool {
        let texts: Vec<&str> = self.wrong.iter().map(|(_, text)| text.as_str()).collect();
        let text = texts.join("; ");
        match self.wrong.first() {
            None => status::clear(d, status::TRAFFIC),
            Some((reason, _)) => {
                if status::set(d, status::TRAFFIC, true, reason, &text) {
                    d.warn(reason, text);
                }
            }
        }
        !self.awaited
    }
}

/// What is said of a route that nobody serves.
pub(super) fn unserved(route: &Value) -> String {
    format!(
        "{}: spec.parentRefs is empty, so no router serves it and no traffic can move: name its \
         Gateway there",
        title(route)
    )
}

/// `HTTPRoute web`, for messages.
pub(super) fn title(route: &Value) -> String {
    let part = |path: &str| route.pointer(path).and_then(Value::as_str);
    let kind = part("/kind").unwrap_or("HTTPRoute");
    format!("{kind} {}", part("/metadata/name").unwrap_or_default())
}
