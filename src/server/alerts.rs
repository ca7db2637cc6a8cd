//! Where Alertmanager posts: `POST /alerts`, with the token of a Secret.
//!
//! Any replica takes it, whether it holds the Lease or not: what is written is the wish of a status
//! write, as a person's verb is, and the replica that works carries it out. A failure is answered so
//! that Alertmanager comes again.

use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::alerts::{self, Notice};
use crate::api::Rollout;
use crate::api::common::SecretKeyRef;
use crate::apply::{self, ApplyError, Http};
use crate::providers;

/// Whom alerts go to.
pub struct Alerts {
    /// The cluster.
    pub client: kube::Client,
    /// The controller's own namespace.
    pub own: String,
    /// The Secret there whose key `token` callers show.
    pub secret: String,
    /// Only Rollouts of this namespace, or all.
    pub namespace: Option<String>,
}

/// The route; it answers 503 until `alerts` is there.
pub fn router(alerts: Arc<OnceLock<Alerts>>) -> Router {
    Router::new().route("/alerts", post(take)).with_state(alerts)
}

/// The route of a controller that takes no alerts: Alertmanager does not come again after a 404.
pub fn none() -> Router {
    let words = "no alerts are taken here: start the controller with --alerts-secret\n";
    Router::new().route("/alerts", post(move || async move { (StatusCode::NOT_FOUND, words) }))
}

async fn take(
    State(alerts): State<Arc<OnceLock<Alerts>>>,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, String) {
    let Some(alerts) = alerts.get() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "no alerts are taken yet\n".to_owned());
    };
    match alerts.allowed(&headers).await {
        Ok(true) => {}
        Ok(false) => return (StatusCode::UNAUTHORIZED, "the token is not the Secret's\n".into()),
        Err(why) => return (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
    let notice = match alerts::read(&body) {
        Ok(notice) => notice,
        Err(error) => return (StatusCode::BAD_REQUEST, format!("{error}\n")),
    };
    match alerts.stop(&notice).await {
        Ok(stopped) => (StatusCode::OK, format!("stopped: {stopped:?}\n")),
        Err(error) => {
            tracing::warn!(error = %error.advice(), "an alert was not passed on");
            (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n"))
        }
    }
}

impl Alerts {
    async fn allowed(&self, headers: &HeaderMap) -> Result<bool, String> {
        let shown = headers.get("authorization").and_then(|value| value.to_str().ok());
        let Some(shown) = shown.and_then(|value| value.strip_prefix("Bearer ")) else {
            return Ok(false);
        };
        let at = SecretKeyRef { name: self.secret.clone(), key: "token".to_owned() };
        let token = providers::token(&self.client, &self.own, &at).await;
        let token = token.map_err(|error| error.to_string())?;
        // Digests are compared, so that the time says nothing of how much was right.
        let digest = |text: &str| Sha256::digest(text.trim());
        Ok(!token.trim().is_empty() && digest(&token) == digest(shown))
    }

    /// Asks every release that a rule names to stop; returns which.
    async fn stop(&self, notice: &Notice) -> Result<Vec<String>, ApplyError> {
        let namespace = self.namespace.as_ref().map(|ns| format!("/namespaces/{ns}"));
        let all = format!("/apis/sluice.dev/v1beta1{}/rollouts", namespace.unwrap_or_default());
        let list = Http::get(all).send(&self.client).await?;
        let mut stopped = Vec::new();
        let mut refused = None;
        for item in list.get("items").and_then(Value::as_array).into_iter().flatten() {
            // One that cannot be read has no release of ours.
            let Ok(rollout) = serde_json::from_value::<Rollout>(item.clone()) else { continue };
            let asked = |rollout: &Rollout| alerts::request(rollout, notice);
            let name = rollout.metadata.name.clone().unwrap_or_default();
            match apply::wish(&self.client, rollout, asked).await {
                Ok(verb) => stopped.extend(verb.map(|verb| format!("{name}: {verb:?}"))),
                // It keeps the alert from no other; the sender tries again.
                Err(error) => refused = Some(error),
            }
        }
        refused.map_or(Ok(stopped), Err)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use axum::body::Body;
    use serde_json::json;
    use tower::ServiceExt;

    use super::*;
    use crate::api::RolloutStatus;
    use crate::api::status::ReleaseStatus;

    /// An API server with one Rollout and one Secret, whose first `conflicts` writes meet another.
    #[derive(Clone, Default)]
    struct Api {
        written: Arc<Mutex<Vec<Value>>>,
        conflicts: Arc<Mutex<usize>>,
        broken: bool,
        /// The first Rollout of the list can be read and not written.
        stuck: bool,
    }

    fn rollout() -> Value {
        let release = ReleaseStatus { id: "r1".to_owned(), ..ReleaseStatus::default() };
        let status = RolloutStatus { release: Some(release), ..RolloutStatus::default() };
        json!({
            "apiVersion": "sluice.dev/v1beta1", "kind": "Rollout",
            "metadata": {"name": "web", "namespace": "shop", "resourceVersion": "7"},
            "spec": {"workloadRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
                "strategy": {}, "alerts": [{"matchLabels": {"service": "web"}}]},
            "status": status,
        })
    }

    impl Api {
        fn answer(&self, method: &str, path: &str, body: &[u8]) -> (u16, Value) {
            let refused = |code: u16, reason: &str| {
                (
                    code,
                    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "code": code,
                    "status": "Failure", "reason": reason, "message": reason}),
                )
            };
            let one = "/apis/sluice.dev/v1beta1/namespaces/shop/rollouts/web";
            match (method, path) {
                ("GET", "/api/v1/namespaces/sluice-system/secrets/alerts") => {
                    let token = k8s_openapi::ByteString(b"the-token\n".to_vec());
                    (200, json!({"metadata": {}, "data": {"token": token}}))
                }
                ("GET", _) if self.broken => refused(500, "InternalError"),
                ("GET", "/apis/sluice.dev/v1beta1/rollouts") => {
                    let mut items = vec![rollout(), json!({"kind": "Rollout", "spec": 7})];
                    if self.stuck {
                        items.insert(0, rollout());
                        items[0]["metadata"]["name"] = json!("stuck");
                    }
                    (200, json!({"items": items}))
                }
                ("GET", path) if path == one => (200, rollout()),
                ("PUT", path) if path.starts_with(one) => {
                    let mut conflicts = self.conflicts.lock().unwrap();
                    if *conflicts > 0 {
                        *conflicts -= 1;
                        return refused(409, "Conflict");
                    }
                    let body: Value = serde_json::from_slice(body).unwrap();
                    self.written.lock().unwrap().push(body.clone());
                    (200, body)
                }
                _ => refused(404, "NotFound"),
            }
        }

        fn router(&self) -> Router {
            let this = self.clone();
            let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
                let this = this.clone();
                async move {
                    let (parts, body) = request.into_parts();
                    let body = body.collect_bytes().await.unwrap();
                    let (status, body) =
                        this.answer(parts.method.as_str(), parts.uri.path(), &body);
                    let body = kube::client::Body::from(body.to_string().into_bytes());
                    let answer = http::Response::builder().status(status).body(body).unwrap();
                    Ok::<_, std::convert::Infallible>(answer)
                }
            });
            let alerts = Arc::new(OnceLock::new());
            let given = Alerts {
                client: kube::Client::new(service, "default"),
                own: "sluice-system".to_owned(),
                secret: "alerts".to_owned(),
                namespace: None,
            };
            assert!(alerts.set(given).is_ok());
            router(alerts)
        }
    }

    async fn post_to(router: Router, token: Option<&str>, body: &str) -> u16 {
        let mut request = http::Request::post("/alerts");
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let request = request.body(Body::from(body.to_owned())).unwrap();
        router.oneshot(request).await.unwrap().status().as_u16()
    }

    fn firing() -> String {
        json!({"version": "4", "status": "firing", "alerts": [{"status": "firing",
            "labels": {"alertname": "HighErrors", "service": "web"}}]})
        .to_string()
    }

    #[tokio::test]
    async fn an_alert_with_the_token_asks_the_release_to_go_back() {
        let api = Api { conflicts: Arc::new(Mutex::new(2)), ..Api::default() };
        assert_eq!(post_to(api.router(), Some("the-token"), &firing()).await, 200);
        let written = api.written.lock().unwrap();
        let request = &written[0]["status"]["request"];
        let expected = json!({"verb": "Abort", "by": "the alert HighErrors", "release": "r1"});
        assert_eq!((written.len(), request), (1, &expected));
        assert_eq!(written[0]["metadata"]["resourceVersion"], "7");
    }

    #[tokio::test]
    async fn a_rollout_that_cannot_be_written_keeps_the_alert_from_no_other() {
        let api = Api { stuck: true, ..Api::default() };
        assert_eq!(post_to(api.router(), Some("the-token"), &firing()).await, 503, "tried again");
        assert_eq!(api.written.lock().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn without_the_token_nothing_is_read_and_failures_come_again() {
        let api = Api::default();
        for token in [None, Some(""), Some("another")] {
            assert_eq!(post_to(api.router(), token, &firing()).await, 401, "{token:?}");
        }
        assert_eq!(post_to(api.router(), Some("the-token"), "no JSON").await, 400);
        let broken = Api { broken: true, ..Api::default() };
        assert_eq!(post_to(broken.router(), Some("the-token"), &firing()).await, 503);
        let nobody = router(Arc::new(OnceLock::new()));
        assert_eq!(post_to(nobody, Some("the-token"), &firing()).await, 503);
        assert!(api.written.lock().unwrap().is_empty());
    }
}
