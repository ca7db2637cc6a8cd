//! Real HTTP servers, one per pod, each on a loopback address of its own.
//!
//! Linux routes all of 127.0.0.0/8 to the loopback device; elsewhere only 127.0.0.1 exists and
//! opening a pod fails with the address in the message.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use serde_json::Value;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::behaviour::{Behaviour, Behaviours};
use super::counters::PodCounters;
use crate::sim::apiserver::{ApiServer, ResourceKey};

/// The port of a container that declares none.
const DEFAULT_PORT: u16 = 8080;
/// Addresses tried before giving up; another cluster on this machine may hold some.
const ATTEMPTS: u32 = 1_000;
/// Blocks of 256 addresses from 127.64.0.0 to 127.191.255.255.
const BLOCKS: u32 = 1 << 15;

/// Why a pod could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum PodServersError {
    /// No loopback address could be listened on.
    #[error(
        "no loopback address could be opened for pod {pod}, the last was {address}; pods need \
             Linux, where all of 127.0.0.0/8 is loopback"
    )]
    Listen {
        /// Namespace and name.
        pod: String,
        /// The last address tried.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

type PodKey = (String, String);

struct Open {
    uid: String,
    address: IpAddr,
    stop: CancellationToken,
}

#[derive(Default)]
struct State {
    next: u32,
    seed: u64,
    pods: BTreeMap<PodKey, Open>,
}

/// The servers of all pods of a cluster.
pub struct PodServers {
    behaviours: Behaviours,
    runtime: Handle,
    state: Mutex<State>,
}

/// What the handler of one pod shares between connections.
struct Pod {
    app: String,
    name: String,
    behaviour: Behaviour,
    opened: tokio::time::Instant,
    answering: Mutex<(PodCounters, SmallRng)>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl PodServers {
    /// No servers yet; they will run on `runtime`. `seed` decides errors and response times.
    #[must_use]
    pub fn new(behaviours: Behaviours, seed: u64, runtime: Handle) -> Arc<Self> {
        let state = Mutex::new(State { seed, next: block_of_addresses(), ..State::default() });
        Arc::new(Self { behaviours, runtime, state })
    }

    /// Opens the pod's ports on an address of its own and returns the address. The sockets listen
    /// when this returns, so that a pod that is then reported ready does not refuse connections.
    /// A pod that is open already keeps its address.
    ///
    /// # Errors
    /// No loopback address can be listened on.
    pub fn open(&self, pod: &Value) -> Result<IpAddr, PodServersError> {
        let (key, uid) = (key_of(pod), string(&pod["metadata"]["uid"]));
        let mut state = lock(&self.state);
        if let Some(open) = state.pods.get(&key).filter(|open| open.uid == uid) {
            return Ok(open.address);
        }
        let ports = ports_of(pod);
        let (address, listeners) = listen(&mut state, &key, &ports)?;
        state.seed = state.seed.wrapping_add(1);
        let image = string(&pod["spec"]["containers"][0]["image"]);
        let labels = &pod["metadata"]["labels"];
        let app = ["app", "app.kubernetes.io/name"].iter().find_map(|l| labels[*l].as_str());
        let mut rng = SmallRng::seed_from_u64(state.seed);
        let behaviour = self.behaviours.of(&image).of_a_pod(&mut rng);
        let mut counters = PodCounters::default();
        if behaviour.lived > 0 {
            counters.live(&behaviour, &mut rng);
        }
        let shared = Arc::new(Pod {
            app: app.unwrap_or("app").to_owned(),
            name: key.1.clone(),
            behaviour,
            opened: tokio::time::Instant::now(),
            answering: Mutex::new((counters, rng)),
        });
        let stop = CancellationToken::new();
        for listener in listeners {
            self.runtime.spawn(serve(shared.clone(), listener, stop.clone()));
        }
        if let Some(previous) = state.pods.insert(key, Open { uid, address, stop }) {
            previous.stop.cancel();
        }
        Ok(address)
    }

    /// Closes the pod's ports; answers under way are finished.
    pub fn close(&self, namespace: &str, name: &str) {
        let key = (namespace.to_owned(), name.to_owned());
        if let Some(open) = lock(&self.state).pods.remove(&key) {
            open.stop.cancel();
        }
    }

    /// Closes what is open of pods that are gone from the API server.
    fn close_all_but_those_of(&self, server: &ApiServer) {
        // Held before the list is read: a pod that is created and opened in between is in no list.
        let mut state = lock(&self.state);
        let there: BTreeMap<PodKey, String> = server
            .list(&ResourceKey::PODS, None)
            .iter()
            .map(|pod| (key_of(pod), string(&pod["metadata"]["uid"])))
            .collect();
        state.pods.retain(|key, open| {
            let stays = there.get(key) == Some(&open.uid);
            if !stays {
                open.stop.cancel();
            }
            stays
        });
    }

    /// Closes the ports of pods that are gone from the API server, until `stop`; then all.
    pub async fn control(self: Arc<Self>, server: ApiServer, stop: CancellationToken) {
        let mut notify = server.notify();
        loop {
            notify.mark_unchanged();
            self.close_all_but_those_of(&server);
            tokio::select! {
                changed = notify.changed() => if changed.is_err() { break },
                () = stop.cancelled() => break,
            }
        }
        for open in lock(&self.state).pods.values() {
            open.stop.cancel();
        }
    }
}

fn string(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn key_of(pod: &Value) -> PodKey {
    let metadata = &pod["metadata"];
    (metadata["namespace"].as_str().unwrap_or("default").to_owned(), string(&metadata["name"]))
}

fn ports_of(pod: &Value) -> Vec<u16> {
    let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
    let declared = containers
        .flat_map(|container| container["ports"].as_array().into_iter().flatten())
        .filter_map(|port| port["containerPort"].as_u64().and_then(|p| u16::try_from(p).ok()));
    let mut ports: Vec<u16> = declared.collect();
    ports.sort_unstable();
    ports.dedup();
    if ports.is_empty() { vec![DEFAULT_PORT] } else { ports }
}

/// The address before the first one: 256 of its own for each cluster of each process, so that an address that
/// one has just left is not another's a moment later, while somebody still asks there.
fn block_of_addresses() -> u32 {
    static CLUSTERS: AtomicU32 = AtomicU32::new(0);
    let cluster = CLUSTERS.fetch_add(1, Ordering::Relaxed);
    (std::process::id().wrapping_mul(61).wrapping_add(cluster) % BLOCKS) << 8
}

type Listeners = Vec<std::net::TcpListener>;

fn listen(
    state: &mut State,
    pod: &PodKey,
    ports: &[u16],
) -> Result<(IpAddr, Listeners), PodServersError> {
    let mut attempt = 0;
    loop {
        attempt += 1;
        state.next += 1;
        let [_, b, c, d] = state.next.to_be_bytes();
        // From 127.64.0.1 up: far from 127.0.0.1 and from 127.0.1.1, which Debian uses.
        let address = IpAddr::V4(Ipv4Addr::new(127, 64 + b % 128, c, d));
        let opened: io::Result<Listeners> = ports
            .iter()
            .map(|port| {
                let listener = std::net::TcpListener::bind((address, *port))?;
                listener.set_nonblocking(true)?;
                Ok(listener)
            })
            .collect();
        match opened {
            Ok(listeners) => return Ok((address, listeners)),
            Err(source) if attempt >= ATTEMPTS => {
                let port = ports.first().copied().unwrap_or(DEFAULT_PORT);
                return Err(PodServersError::Listen {
                    pod: format!("{}/{}", pod.0, pod.1),
                    address: SocketAddr::new(address, port),
                    source,
                });
            }
            Err(_) => {}
        }
    }
}

async fn serve(pod: Arc<Pod>, listener: std::net::TcpListener, stop: CancellationToken) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        let Ok((stream, _)) = accepted else { continue };
        let _ = stream.set_nodelay(true);
        let (pod, stop) = (pod.clone(), stop.clone());
        tokio::spawn(async move {
            let service = hyper::service::service_fn(move |request| {
                let pod = pod.clone();
                async move { Ok::<_, Infallible>(answer(&pod, request).await) }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service);
            let mut connection = std::pin::pin!(connection);
            tokio::select! {
                _ = connection.as_mut() => {}
                () = stop.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    let _ = connection.await;
                }
            }
        });
    }
}

async fn answer(pod: &Pod, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let _ = body.collect().await;
    let path = head.uri.path();
    if path == "/metrics" {
        let page = lock(&pod.answering).0.exposition(&pod.app, &pod.behaviour.version);
        let mut response = Response::new(Full::new(Bytes::from(page)));
        let format = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
        response.headers_mut().insert(http::header::CONTENT_TYPE, format);
        return response;
    }
    if path == "/healthz" {
        return Response::new(Full::new(Bytes::from_static(b"ok\n")));
    }
    let behaviour = pod.behaviour.at_age(pod.opened.elapsed().as_secs_f64());
    let drawn = behaviour.draw(&mut lock(&pod.answering).1);
    tokio::time::sleep(Duration::from_secs_f64(drawn.seconds)).await;
    lock(&pod.answering).0.record(head.method.as_str(), drawn);
    let text = format!("{} {}\n", pod.behaviour.version, pod.name);
    let mut response = Response::new(Full::new(Bytes::from(text)));
    if let Ok(code) = http::StatusCode::from_u16(drawn.code) {
        *response.status_mut() = code;
    }
    if let Ok(version) = HeaderValue::from_str(&pod.behaviour.version) {
        response.headers_mut().insert("x-version", version);
    }
    response
}
