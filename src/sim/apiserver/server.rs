//! The synchronous core: one [`Call`] in, one answer out, under one lock.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::watch;

use super::{
    ApiStatus, Call, Change, Faults, Log, Plugins, Refusable, ResourceKey, Verb, bootstrap, delete,
    kinds::Kind, read, review, state::State, write,
};
use crate::clock::Clock;

/// An in-memory Kubernetes API server. Clones share one state.
#[derive(Clone)]
pub struct ApiServer {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    clock: Arc<dyn Clock>,
    plugins: Plugins,
    state: Mutex<State>,
    latest: watch::Sender<u64>,
    requests: AtomicU64,
    faults: Faults,
    log: Log,
}

/// One request being answered: what every handler needs.
pub(super) struct Request<'a> {
    /// The request but for its body.
    pub(super) call: &'a Call,
    /// Its body.
    pub(super) body: Value,
    pub(super) kind: Arc<Kind>,
    pub(super) now: Timestamp,
    pub(super) plugins: &'a Plugins,
    pub(super) warnings: Vec<String>,
}

/// An answer with what HTTP adds to it.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The object, list or status.
    pub value: Arc<Value>,
    /// True if something was created: HTTP 201.
    pub created: bool,
    /// Texts for `Warning` headers.
    pub warnings: Vec<String>,
}

impl ApiServer {
    /// A server with the namespaces that every cluster has, and no plug points.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self::with_plugins(clock, Plugins::none())
    }

    /// A server with these schemas and policies.
    #[must_use]
    pub fn with_plugins(clock: Arc<dyn Clock>, plugins: Plugins) -> Self {
        let server = Self::holding(State::new(), clock, plugins);
        bootstrap::fill(&server);
        server
    }

    /// A server of its own that begins with all that this one holds.
    pub(in crate::sim) fn twin(&self, clock: Arc<dyn Clock>, plugins: Plugins) -> Self {
        Self::holding(self.lock().clone(), clock, plugins)
    }

    fn holding(state: State, clock: Arc<dyn Clock>, plugins: Plugins) -> Self {
        let (latest, _) = watch::channel(state.rv);
        let inner = Inner {
            clock,
            plugins,
            state: Mutex::new(state),
            latest,
            requests: AtomicU64::new(0),
            faults: Faults::default(),
            log: Log::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Answers a request.
    ///
    /// # Errors
    /// The refusal, as Kubernetes would word it.
    pub fn call(&self, call: Call) -> Refusable<Value> {
        self.handle(call).map(|reply| Arc::unwrap_or_clone(reply.value))
    }

    /// Answers a request, with what HTTP adds to the answer.
    ///
    /// # Errors
    /// The refusal, as Kubernetes would word it.
    pub fn handle(&self, mut call: Call) -> Refusable<Reply> {
        let body = call.body.take();
        let call = &call;
        let now = self.inner.clock.now();
        let mut state = self.lock();
        let kind = state.kinds.get(&call.resource).cloned();
        let kind = kind.ok_or_else(ApiStatus::no_such_resource)?;
        let mut request =
            Request { call, body, kind, now, plugins: &self.inner.plugins, warnings: Vec::new() };
        let before = state.rv;
        let answer = dispatch(&mut request, &mut state);
        let after = state.rv;
        drop(state);
        if after != before {
            self.inner.latest.send_replace(after);
        }
        answer.map(|(value, created)| Reply { value, created, warnings: request.warnings })
    }

    /// One object, in the version that `resource` names; `namespace` is empty for cluster scope.
    #[must_use]
    pub fn get(&self, resource: &ResourceKey, namespace: &str, name: &str) -> Option<Arc<Value>> {
        self.lock().get(resource, namespace, name)
    }

    /// All objects of a resource, in one namespace or in all, sorted by namespace and name.
    #[must_use]
    pub fn list(&self, resource: &ResourceKey, namespace: Option<&str>) -> Vec<Arc<Value>> {
        self.lock().list(resource, namespace)
    }

    /// What changed after `rv`, in order. When that is no longer remembered, every object there is
    /// as an addition: a level-triggered reader that also drops what it no longer sees is right.
    #[must_use]
    pub fn changes_since(&self, rv: u64) -> Vec<Change> {
        let state = self.lock();
        match state.since(rv) {
            Some(changes) => changes.cloned().collect(),
            None => state.everything(),
        }
    }

    /// The latest resourceVersion.
    #[must_use]
    pub fn resource_version(&self) -> u64 {
        self.lock().rv
    }

    /// Follows the latest resourceVersion.
    #[must_use]
    pub fn notify(&self) -> watch::Receiver<u64> {
        self.inner.latest.subscribe()
    }

    /// Forgets all changes, so that watches from an older resourceVersion get 410 Gone.
    pub fn compact(&self) {
        self.lock().compact();
    }

    /// The resource that serves a kind, such as `apps/v1`, `Deployment`.
    #[must_use]
    pub fn resource_of(&self, api_version: &str, kind: &str) -> Option<ResourceKey> {
        self.lock().kinds.of_kind(api_version, kind).map(|kind| kind.key.clone())
    }

    /// The server's time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.inner.clock.now()
    }

    /// The faults of the edges.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.inner.faults
    }

    /// The log of requests that came over the edges.
    #[must_use]
    pub fn log(&self) -> &Log {
        &self.inner.log
    }

    pub(super) fn count_request(&self) -> u64 {
        self.inner.requests.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn dispatch(request: &mut Request<'_>, state: &mut State) -> Refusable<(Arc<Value>, bool)> {
    if request.kind.answered {
        return Ok((Arc::new(review::answer(request)?), true));
    }
    match request.call.verb {
        Verb::Get => Ok((Arc::new(read::get(request, state)?), false)),
        Verb::List => Ok((Arc::new(read::list(request, state)?), false)),
        Verb::Create => Ok((write::create(request, state)?, true)),
        Verb::Update => Ok((write::update(request, state)?, false)),
        Verb::Patch(patch) => write::patch(request, state, patch),
        Verb::Delete => Ok((Arc::new(delete::one(request, state)?), false)),
        Verb::DeleteCollection => Ok((Arc::new(delete::collection(request, state)?), false)),
    }
}
