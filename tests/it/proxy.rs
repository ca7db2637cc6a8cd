//! An HTTP server in front of an API server, which does to requests what a test wants.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, Method, StatusCode, header};
use http_body_util::BodyExt;
use serde_json::json;
use tokio::task::AbortHandle;

/// What happens to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It is answered as the API server answers.
    Pass,
    /// It is answered with this code and a `Status`, and not passed on.
    Refuse(u16),
    /// It is not passed on and never answered.
    Hang,
    /// It is passed on and never answered.
    LoseAnswer,
}

/// What a rule sees.
#[derive(Debug, Clone)]
pub struct Asked {
    pub method: Method,
    pub path: String,
}

impl Asked {
    /// True for everything that may change the store.
    pub fn writes(&self) -> bool {
        !matches!(self.method, Method::GET | Method::HEAD)
    }

    /// The namespace in the path.
    pub fn namespace(&self) -> Option<&str> {
        self.path.split("/namespaces/").nth(1)?.split('/').next()
    }
}

type Rule = Box<dyn FnMut(&Asked) -> Fate + Send>;

#[derive(Clone)]
struct Shared {
    client: kube::Client,
    rule: Arc<Mutex<Rule>>,
}

/// Serves until it is dropped.
pub struct Proxy {
    pub url: String,
    serving: AbortHandle,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Proxy {
    /// Everything that is passed on is asked by this client.
    pub async fn start(
        client: kube::Client,
        rule: impl FnMut(&Asked) -> Fate + Send + 'static,
    ) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shared = Shared { client, rule: Arc::new(Mutex::new(Box::new(rule))) };
        let app = axum::Router::new().fallback(serve).with_state(shared);
        let serving = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { url, serving: serving.abort_handle() }
    }

    /// A kubeconfig that points here.
    pub fn kubeconfig(&self, folder: &Path) -> PathBuf {
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "it",
            "clusters": [{"name": "it", "cluster": {"server": self.url}}],
            "users": [{"name": "it", "user": {}}],
            "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
        });
        let port = self.url.rsplit(':').next().unwrap();
        let file = folder.join(format!("proxy-{port}.kubeconfig"));
        std::fs::write(&file, config.to_string()).unwrap();
        file
    }
}

async fn serve(State(shared): State<Shared>, request: axum::extract::Request) -> Response {
    let asked = Asked { method: request.method().clone(), path: request.uri().path().to_owned() };
    let fate = (shared.rule.lock().unwrap())(&asked);
    match fate {
        Fate::Refuse(code) => refusal(code),
        Fate::Hang => std::future::pending().await,
        Fate::Pass => pass(&shared.client, request).await,
        Fate::LoseAnswer => {
            let _answer = pass(&shared.client, request).await;
            std::future::pending().await
        }
    }
}

async fn pass(client: &kube::Client, request: axum::extract::Request) -> Response {
    let (mut parts, body) = request.into_parts();
    let Ok(body) = body.collect().await else { return refusal(400) };
    for name in [header::HOST, header::CONTENT_LENGTH, header::AUTHORIZATION, header::CONNECTION] {
        parts.headers.remove(name);
    }
    parts.headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    let body = kube::client::Body::from(body.to_bytes().to_vec());
    match client.send(http::Request::from_parts(parts, body)).await {
        Ok(answer) => {
            let (mut parts, body) = answer.into_parts();
            parts.headers.remove(header::TRANSFER_ENCODING);
            parts.headers.remove(header::CONTENT_LENGTH);
            Response::from_parts(parts, Body::new(body))
        }
        Err(error) => (StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
    }
}

/// As an API server refuses.
fn refusal(code: u16) -> Response {
    let reason = match code {
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "NotFound",
        429 => "TooManyRequests",
        503 => "ServiceUnavailable",
        _ => "InternalError",
    };
    let status = json!({"apiVersion": "v1", "kind": "Status", "status": "Failure",
        "reason": reason, "code": code, "message": format!("the test refuses this with {code}")});
    let mut answer = (StatusCode::from_u16(code).unwrap(), status.to_string()).into_response();
    let json = HeaderValue::from_static("application/json");
    answer.headers_mut().insert(header::CONTENT_TYPE, json);
    if code == 429 {
        answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    answer
}
