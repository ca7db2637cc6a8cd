//! Leader election by a Lease.
//!
//! A holder's clock is never believed: a Lease has expired when *we* have not seen it change for its
//! whole duration, as in client-go. A Lease is no fence either: that is what uid and resourceVersion on
//! every write are for.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::apply::{Answer, ApplyError, Http};
use crate::clock::Clock;

/// How long a Lease lasts without being renewed.
const DURATION: Duration = Duration::from_secs(15);
/// How long its holder relies on it, counted from when it asked: a third less than everybody else waits,
/// so that two clocks and a slow answer leave no time in which both write.
const RELY: Duration = Duration::from_secs(10);
/// How often the holder renews it.
const RENEW: Duration = Duration::from_secs(3);
/// How often everybody else looks, and the holder after a try that failed.
const LOOK: Duration = Duration::from_secs(2);
/// A try without an answer is over after this long: another one begins before [`RELY`] is over.
const PATIENCE: Duration = Duration::from_secs(3);

/// Our claim to one Lease.
pub struct Lease {
    client: kube::Client,
    path: String,
    collection: String,
    name: String,
    identity: String,
    seen: Option<(String, Instant)>,
    held: Option<Held>,
}

/// The Lease as we wrote it last.
struct Held {
    version: Value,
    asked_at: Instant,
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
            held: None,
        }
    }

    /// Tries to hold or to renew it; true while it is ours. What went wrong is logged: a Lease that is
    /// still ours by our own count stays ours.
    pub async fn tick(&mut self, clock: &dyn Clock) -> bool {
        let asked_at = Instant::now();
        match tokio::time::timeout(PATIENCE, self.try_once(clock)).await {
            Ok(Ok(Some(version))) => self.held = Some(Held { version, asked_at }),
            Ok(Ok(None)) => self.held = None,
            Ok(Err(error)) => {
                tracing::warn!(error = %error.advice(), "the Lease was not renewed or taken");
            }
            Err(_) => tracing::warn!(after = ?PATIENCE, "no answer about the Lease"),
        }
        self.is_held()
    }

    /// How long to wait before the next try.
    #[must_use]
    pub fn pause(&self) -> Duration {
        match &self.held {
            Some(held) if held.asked_at.elapsed() < LOOK => RENEW,
            _ => LOOK,
        }
    }

    /// Gives it up, so that the next one need not wait.
    pub async fn release(&mut self) {
        if !self.is_held() {
            return;
        }
        let Some(held) = self.held.take() else { return };
        let body = json!({
            "metadata": {"resourceVersion": held.version},
            "spec": {"holderIdentity": "", "leaseDurationSeconds": 1},
        });
        let request = Http::merge(self.path.clone(), body).send(&self.client);
        match tokio::time::timeout(PATIENCE, request).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::warn!(error = %error, "the Lease could not be given up"),
            Err(_) => tracing::warn!("no answer: the Lease ends by itself"),
        }
    }

    /// True while nobody else can have it.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.held.as_ref().is_some_and(|held| held.asked_at.elapsed() < RELY)
    }

    /// Its version when it is ours now, nothing when it is somebody else's.
    async fn try_once(&mut self, clock: &dyn Clock) -> Result<Option<Value>, ApplyError> {
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
            return Ok(None);
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
        ours_now(Http::merge(self.path.clone(), body).send(&self.client).await)
    }

    async fn create(&self, now: &str) -> Result<Option<Value>, ApplyError> {
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
        ours_now(Http::post(self.collection.clone(), object).send(&self.client).await)
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

/// The version of what was written; nothing when somebody was faster.
fn ours_now(answer: Answer) -> Result<Option<Value>, ApplyError> {
    match answer {
        Ok(object) => {
            Ok(Some(object.pointer("/metadata/resourceVersion").cloned().unwrap_or_default()))
        }
        Err(e) if e.code() == Some(409) => Ok(None),
        Err(e) => Err(e),
    }
}
