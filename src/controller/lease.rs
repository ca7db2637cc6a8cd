//! Leader election by a Lease.
//!
//! A holder's clock is never believed: a Lease has expired when *we* have not seen it change for its
//! whole duration, as in client-go. A Lease is no fence either: that is what uid and resourceVersion on
//! every write are for.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::apply::{ApplyError, Http};
use crate::clock::Clock;

/// How long a Lease lasts without being renewed.
const DURATION: Duration = Duration::from_secs(15);
/// How often the holder renews it: three tries fit into its duration.
const RENEW: Duration = Duration::from_secs(5);
/// How often everybody else looks.
const LOOK: Duration = Duration::from_secs(2);

/// Our claim to one Lease.
pub struct Lease {
    client: kube::Client,
    path: String,
    collection: String,
    name: String,
    identity: String,
    seen: Option<(String, Instant)>,
    held_until: Option<Instant>,
}

impl Lease {
    /// The Lease `sluice` in a namespace, for the process called `identity`.
    #[must_use]
    pub fn new(client: kube::Client, namespace: &str, identity: &str) -> Self {
        let collection = format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases");
        Self {
            client,
            path: format!("{collection}/sluice"),
            collection,
            name: "sluice".into(),
            identity: identity.to_owned(),
            seen: None,
            held_until: None,
        }
    }

    /// Tries to hold or to renew it; true while it is ours.
    ///
    /// # Errors
    /// The API server refused for another reason than a race. A Lease that is still ours by our own
    /// count stays ours.
    pub async fn tick(&mut self, clock: &dyn Clock) -> Result<bool, ApplyError> {
        match self.try_once(clock).await {
            Ok(true) => {
                self.held_until = Some(Instant::now() + DURATION);
                Ok(true)
            }
            Ok(false) => {
                self.held_until = None;
                Ok(false)
            }
            Err(error) if self.still_held() => {
                tracing::warn!(error = %error, "the Lease could not be renewed");
                Ok(true)
            }
            Err(error) => Err(error),
        }
    }

    /// How long to wait before the next try.
    #[must_use]
    pub fn pause(&self) -> Duration {
        if self.still_held() { RENEW } else { LOOK }
    }

    /// Gives it up, so that the next one need not wait.
    pub async fn release(&mut self) {
        if !self.still_held() {
            return;
        }
        self.held_until = None;
        let body = json!({"spec": {"holderIdentity": "", "leaseDurationSeconds": 1}});
        if let Err(error) = Http::merge(self.path.clone(), body).send(&self.client).await {
            tracing::warn!(error = %error, "the Lease could not be given up");
        }
    }

    fn still_held(&self) -> bool {
        self.held_until.is_some_and(|until| Instant::now() < until)
    }

    async fn try_once(&mut self, clock: &dyn Clock) -> Result<bool, ApplyError> {
        let now = format!("{:.6}", clock.now());
        let found = match Http::get(self.path.clone()).send(&self.client).await {
            Ok(found) => found,
            Err(e) if e.code() == Some(404) => return self.create(&now).await,
            Err(e) => return Err(e),
        };
        let text = |path: &str| found.pointer(path).and_then(Value::as_str).unwrap_or_default();
        let holder = text("/spec/holderIdentity");
        let version = text("/metadata/resourceVersion").to_owned();
        let ours = holder == self.identity;
        if !ours && !holder.is_empty() && !self.expired(&version, &found) {
            return Ok(false);
        }
        let transitions =
            found.pointer("/spec/leaseTransitions").and_then(Value::as_i64).unwrap_or(0);
        let mut spec = json!({
            "holderIdentity": self.identity,
            "leaseDurationSeconds": DURATION.as_secs(),
            "renewTime": now,
        });
        if !ours && let Some(spec) = spec.as_object_mut() {
            spec.insert("acquireTime".into(), json!(now));
            spec.insert("leaseTransitions".into(), json!(transitions + 1));
        }
        let body = json!({"metadata": {"resourceVersion": version}, "spec": spec});
        match Http::merge(self.path.clone(), body).send(&self.client).await {
            Ok(_) => Ok(true),
            // Somebody was faster.
            Err(e) if e.code() == Some(409) => Ok(false),
            Err(e) => Err(e),
        }
    }

    async fn create(&self, now: &str) -> Result<bool, ApplyError> {
        let object = json!({
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": self.name},
            "spec": {
                "holderIdentity": self.identity,
                "leaseDurationSeconds": DURATION.as_secs(),
                "acquireTime": now,
                "renewTime": now,
                "leaseTransitions": 0,
            },
        });
        match Http::post(self.collection.clone(), object).send(&self.client).await {
            Ok(_) => Ok(true),
            Err(e) if e.code() == Some(409) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// True when the Lease has not changed for its whole duration, counted from when we saw it.
    fn expired(&mut self, version: &str, found: &Value) -> bool {
        let seconds = found.pointer("/spec/leaseDurationSeconds").and_then(Value::as_u64);
        let lasts = seconds.map_or(DURATION, Duration::from_secs);
        match &self.seen {
            Some((seen, at)) if seen == version => at.elapsed() >= lasts,
            _ => {
                self.seen = Some((version.to_owned(), Instant::now()));
                false
            }
        }
    }
}
