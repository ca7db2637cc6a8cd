//! The data plane: an HTTP/1.1 reverse proxy on a loopback port that follows the [`View`].
//!
//! Bodies are read whole on both sides: the pods here answer briefly, and a request that can be
//! sent again is one that can be retried when its pod does not accept the connection.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rand::rngs::SmallRng;
use rand::{RngCore, SeedableRng};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::controller::Controller;
use super::matching::Request;
use super::table::{Backend, HeaderChange, Outcome, RouteDecision};
use super::view::View;
use crate::sim::apiserver::ApiServer;

/// Requests and failures at one place.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// All requests.
    pub requests: u64,
    /// Those that were answered with 5xx, or not at all.
    pub failures: u64,
}

/// What the gateway has seen since its start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// By the pod that answered (namespace, name).
    pub pods: BTreeMap<(String, String), Tally>,
    /// Requests that no pod answered, by status code: 404, 500, 502 or 503.
    pub elsewhere: BTreeMap<u16, u64>,
}

struct Choice {
    rng: SmallRng,
    turns: BTreeMap<Backend, usize>,
}

/// The gateway. One per cluster; clones of the `Arc` share it.
pub struct Gateway {
    view: Mutex<Arc<View>>,
    choice: Mutex<Choice>,
    seen: Mutex<Seen>,
    client: Client<HttpConnector, Full<Bytes>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Gateway {
    /// A gateway that knows no routes yet; `seed` decides the split.
    #[must_use]
    pub fn new(seed: u64) -> Arc<Self> {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let choice = Choice { rng: SmallRng::seed_from_u64(seed), turns: BTreeMap::new() };
        Arc::new(Self {
            view: Mutex::default(),
            choice: Mutex::new(choice),
            seen: Mutex::default(),
            client: Client::builder(TokioExecutor::new()).build(connector),
        })
    }

    /// What was counted so far.
    #[must_use]
    pub fn seen(&self) -> Seen {
        lock(&self.seen).clone()
    }

    /// Follows the API server and writes the statuses until `stop`.
    pub async fn control(
        self: Arc<Self>,
        server: ApiServer,
        address: SocketAddr,
        stop: CancellationToken,
    ) {
        let mut notify = server.notify();
        let mut controller = Controller::new(server, &address.ip().to_string());
        loop {
            notify.mark_unchanged();
            // Requests go the new way before the status says so: whoever waits for the status may
            // take the old way apart at once.
            let synced = controller.sync_with(|view| *lock(&self.view) = view.clone());
            if let Err(refusal) = synced {
                tracing::warn!(%refusal, "gateway: a status was refused");
            }
            tokio::select! {
                changed = notify.changed() => if changed.is_err() { return },
                () = stop.cancelled() => return,
            }
        }
    }

    /// Serves `listener` until `stop`.
    pub async fn serve(self: Arc<Self>, listener: TcpListener, stop: CancellationToken) {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = stop.cancelled() => return,
            };
            let Ok((stream, _)) = accepted else { continue };
            // Without it a small answer waits for the client's delayed acknowledgement.
            let _ = stream.set_nodelay(true);
            let (gateway, stop) = (self.clone(), stop.clone());
            tokio::spawn(async move {
                let service = hyper::service::service_fn(move |request| {
                    let gateway = gateway.clone();
                    async move { Ok::<_, Infallible>(gateway.answer(request).await) }
                });
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service);
                tokio::select! {
                    _ = connection => {}
                    () = stop.cancelled() => {}
                }
            });
        }
    }

    async fn answer(&self, request: http::Request<Incoming>) -> Response<Full<Bytes>> {
        let (mut head, body) = request.into_parts();
        let Ok(body) = body.collect().await.map(|b| b.to_bytes()) else {
            return self.refuse(StatusCode::BAD_REQUEST, "the request's body broke off");
        };
        let view = lock(&self.view).clone();
        let decision = self.decide(&view, &head.method, &head.uri, &head.headers);
        let share = match &decision.outcome {
            Outcome::Forward(share) => share,
            Outcome::NotFound => return self.refuse(StatusCode::NOT_FOUND, "no route matches"),
            Outcome::Broken(reason) => {
                return self.refuse(StatusCode::INTERNAL_SERVER_ERROR, reason);
            }
        };
        for hop in [CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING] {
            head.headers.remove(hop);
        }
        if let Some(rule) = &decision.rule {
            change(&mut head.headers, &rule.headers);
            for (backend, percent) in &rule.mirrors {
                self.mirror(&view, backend, *percent, &head, &body);
            }
        }
        change(&mut head.headers, &share.headers);
        self.forward(&view, &share.backend, &head, &body).await
    }

    fn decide(
        &self,
        view: &View,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> RouteDecision {
        let pairs: Vec<(String, String)> = headers
            .iter()
            .map(|(k, v)| {
                (k.as_str().to_owned(), String::from_utf8_lossy(v.as_bytes()).into_owned())
            })
            .collect();
        let host = headers.get(HOST).and_then(|h| h.to_str().ok()).or_else(|| uri.host());
        let request = Request {
            host: host.unwrap_or_default(),
            method: method.as_str(),
            path: uri.path(),
            query: uri.query().unwrap_or_default(),
            headers: &pairs,
        };
        let random = lock(&self.choice).rng.next_u64();
        view.route(&request, random)
    }

    /// Sends the request to a ready pod; one that refuses the connection is passed over, and so is
    /// one that breaks it before it answers an idempotent request.
    async fn forward(
        &self,
        view: &View,
        backend: &Backend,
        head: &http::request::Parts,
        body: &Bytes,
    ) -> Response<Full<Bytes>> {
        let ready = view.ready(backend);
        let first = {
            let mut choice = lock(&self.choice);
            let turn = choice.turns.entry(backend.clone()).or_default();
            *turn = turn.wrapping_add(1);
            *turn
        };
        for attempt in 0..ready.len() {
            let Some(endpoint) = ready.get(first.wrapping_add(attempt) % ready.len()) else {
                break;
            };
            let request = outgoing(endpoint.address, head, body);
            let answer = match self.client.request(request).await {
                Ok(answer) => answer,
                Err(error) if error.is_connect() => continue,
                // No answer has begun: what may be asked twice is asked of the next pod.
                Err(_) if head.method.is_idempotent() && attempt + 1 < ready.len() => {
                    self.count(&endpoint.pod, true);
                    continue;
                }
                Err(_) => {
                    self.count(&endpoint.pod, true);
                    return plain(StatusCode::BAD_GATEWAY, "the pod broke the connection");
                }
            };
            let (head, body) = answer.into_parts();
            let Ok(body) = body.collect().await.map(|b| b.to_bytes()) else {
                self.count(&endpoint.pod, true);
                return plain(StatusCode::BAD_GATEWAY, "the pod's answer broke off");
            };
            self.count(&endpoint.pod, head.status.is_server_error());
            let mut response = Response::from_parts(head, Full::new(body));
            for hop in [CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING] {
                response.headers_mut().remove(hop);
            }
            return response;
        }
        let Backend { namespace, service, .. } = backend;
        let reason = format!("no pod of Service {namespace}/{service} takes requests");
        self.refuse(StatusCode::SERVICE_UNAVAILABLE, &reason)
    }

    /// Sends a copy and forgets it.
    fn mirror(
        &self,
        view: &View,
        backend: &Backend,
        percent: u32,
        head: &http::request::Parts,
        body: &Bytes,
    ) {
        let random = lock(&self.choice).rng.next_u64();
        let ready = view.ready(backend);
        let index = usize::try_from(random / 100).unwrap_or_default();
        let endpoint = index.checked_rem(ready.len()).and_then(|i| ready.get(i));
        if let Some(endpoint) = endpoint.filter(|_| random % 100 < u64::from(percent)) {
            let copy = self.client.request(outgoing(endpoint.address, head, body));
            tokio::spawn(async move {
                if let Ok(answer) = copy.await {
                    let _ = answer.into_body().collect().await;
                }
            });
        }
    }

    fn count(&self, pod: &(String, String), failed: bool) {
        let mut seen = lock(&self.seen);
        let tally = seen.pods.entry(pod.clone()).or_default();
        tally.requests += 1;
        tally.failures += u64::from(failed);
    }

    fn refuse(&self, status: StatusCode, reason: &str) -> Response<Full<Bytes>> {
        *lock(&self.seen).elsewhere.entry(status.as_u16()).or_default() += 1;
        plain(status, reason)
    }
}

fn plain(status: StatusCode, reason: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(format!("{reason}\n"))));
    *response.status_mut() = status;
    response
}

fn outgoing(
    address: SocketAddr,
    head: &http::request::Parts,
    body: &Bytes,
) -> http::Request<Full<Bytes>> {
    let path = head.uri.path_and_query().map_or("/", |p| p.as_str());
    let mut request = http::Request::new(Full::new(body.clone()));
    *request.method_mut() = head.method.clone();
    *request.uri_mut() = format!("http://{address}{path}").parse().unwrap_or_default();
    *request.headers_mut() = head.headers.clone();
    request
}

/// Applies a header filter: set, then add, then remove. Names that are not valid are left out.
fn change(headers: &mut HeaderMap, wanted: &HeaderChange) {
    let valid = |(name, value): &(String, String)| {
        Some((name.parse::<HeaderName>().ok()?, value.parse::<HeaderValue>().ok()?))
    };
    for (name, value) in wanted.set.iter().filter_map(valid) {
        headers.insert(name, value);
    }
    for (name, value) in wanted.add.iter().filter_map(valid) {
        headers.append(name, value);
    }
    for name in &wanted.remove {
        headers.remove(name.as_str());
    }
}
