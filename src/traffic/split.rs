//! What is wanted of the routers: which Services, and which requests go where.

use serde::{Deserialize, Serialize};

use crate::api::rollout::{HeaderModifier, HttpMatch};

/// The user's Service and the one that we make beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePair {
    /// The user's Service.
    pub stable: String,
    /// Ours: it selects the pods of the new revision only.
    pub canary: String,
}

impl ServicePair {
    /// The Service and `<service>-canary`. Same name as Kruise's.
    #[must_use]
    pub fn of(service: &str) -> Self {
        Self { stable: service.to_owned(), canary: format!("{service}-canary") }
    }
}

/// Which requests go to the canary Service. The default is none: the stable route.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Split {
    /// The canary's percentage of the service's own share, 0 to 100. Absent: the user's weights
    /// stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u8>,
    /// Requests that go to the canary whatever the weight: any item matches, all parts of one must.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub matches: Vec<HttpMatch>,
    /// Header changes on requests to the canary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub headers: Option<HeaderModifier>,
    /// The percentage of requests copied to the canary, 1 to 100; its answers are thrown away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirror: Option<u8>,
}

impl Split {
    /// All to the stable Service, the route as the user wrote it.
    #[must_use]
    pub fn stable() -> Self {
        Self::default()
    }

    /// This percentage to the canary.
    #[must_use]
    pub fn percent(weight: u8) -> Self {
        Self { weight: Some(weight), ..Self::default() }
    }

    /// These requests to the canary, no others.
    #[must_use]
    pub fn only(matches: Vec<HttpMatch>) -> Self {
        Self { matches, ..Self::default() }
    }

    /// True when it changes nothing on a route.
    #[must_use]
    pub fn is_stable(&self) -> bool {
        self.weight.is_none() && self.matches.is_empty() && self.mirror.is_none_or(|m| m == 0)
    }
}
