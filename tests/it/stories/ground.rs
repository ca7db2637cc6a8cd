//! An API server over HTTP with pods, a gateway and a controller that is a process of its own: the real
//! control plane, or the cluster in the binary in real time.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use kube::config::{Config, Kubeconfig};
use serde_json::{Value, json};
use sluice::apply::Http;
use sluice::clock::{Clock, SystemClock};
use sluice::sim::apiserver::ResourceKey;
use sluice::sim::gateway::{self, Surroundings, View, parents_status};
use sluice::sim::kubelet::{Behaviours, remote};
use sluice::sim::live::Live;
use sluice::sim::load::{Outcomes, Scraper, VirtualTraffic, Visitor};
use sluice::sim::pods;
use sluice::sim::promql::api::{SharedTsdb, router};
use sluice::sim::promql::{Engine, Tsdb};
use sluice::sim::scenario::{Deed, Objects};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::book::Book;
use super::record::Seen;
use super::script::{Cluster, Script, resource_of};
use crate::controlplane::harness::{ControlPlane, Who};
use crate::world::rollouts;

/// A pod that is gone answers for so long: its last requests were already on their way, and the native
/// controllers of a busy machine take seconds to take it out of its EndpointSlice. Kubelets grant thirty.
const LAST_ANSWERS: Duration = Duration::from_secs(5);

/// One API server.
pub struct Ground {
    /// A person with every right.
    pub user: kube::Client,
    /// The same person's kubeconfig.
    pub kubeconfig: PathBuf,
    /// The controller's kubeconfig.
    pub account: PathBuf,
    /// What happens there.
    pub book: Book,
}

impl Ground {
    /// The real control plane.
    pub async fn real(plane: &ControlPlane) -> Self {
        let user = plane.client(Who::Admin);
        Self {
            book: Book::open(&user).await,
            user,
            kubeconfig: plane.kubeconfig(Who::User),
            account: plane.kubeconfig(Who::Sluice),
        }
    }

    /// The cluster in the binary, and a client of the controller's account.
    pub async fn live(live: &Live, folder: &Path) -> (Self, kube::Client) {
        let (kubeconfig, account) = (folder.join("user"), folder.join("account"));
        std::fs::write(&kubeconfig, live.kubeconfig()).unwrap();
        std::fs::write(&account, live.account_kubeconfig()).unwrap();
        let user = live.client().await.unwrap();
        let config = Kubeconfig::from_yaml(&live.account_kubeconfig()).unwrap();
        let config = Config::from_custom_kubeconfig(config, &Default::default()).await.unwrap();
        let client = kube::Client::try_from(config).unwrap();
        (Self { book: Book::open(&user).await, user, kubeconfig, account }, client)
    }
}

/// A client of a kubeconfig.
async fn client_of(kubeconfig: &Path) -> Result<kube::Client, String> {
    let config = Kubeconfig::read_from(kubeconfig).map_err(|e| e.to_string())?;
    let config = Config::from_custom_kubeconfig(config, &Default::default()).await;
    kube::Client::try_from(config.map_err(|e| e.to_string())?).map_err(|e| e.to_string())
}

/// The controller process.
pub struct Controller(Child);

impl Controller {
    /// Starts one for a single namespace.
    pub fn start(kubeconfig: &Path, namespace: &str, more: &[&str]) -> Self {
        Self::listening("127.0.0.1:0", kubeconfig, namespace, more)
    }

    /// Starts one whose port is known.
    pub fn listening(at: &str, kubeconfig: &Path, namespace: &str, more: &[&str]) -> Self {
        let log = std::env::temp_dir().join(format!("sluice-story-{namespace}.log"));
        let log = std::fs::File::options().create(true).append(true).open(log).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_sluice"))
            .args(["controller", "--no-lease", "--listen", at, "-n", namespace])
            .args(more)
            .arg("--kubeconfig")
            .arg(kubeconfig)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Self(child)
    }
}

impl Drop for Controller {
    /// SIGKILL.
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _status = self.0.wait();
    }
}

/// A namespace on a [`Ground`].
pub struct Plot {
    pub ground: Arc<Ground>,
    pub namespace: String,
    pub controller: Option<Controller>,
    prometheus: Option<String>,
    outcomes: Arc<Mutex<Outcomes>>,
    /// Kubelets, gateway, traffic: they end with it.
    world: JoinSet<()>,
}

impl Plot {
    /// A new namespace where nothing runs yet.
    pub async fn new(ground: Arc<Ground>, namespace: &str) -> Self {
        let named =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
        Http::post("/api/v1/namespaces", named).send(&ground.user).await.unwrap();
        Self {
            ground,
            namespace: namespace.to_owned(),
            controller: None,
            prometheus: None,
            outcomes: Arc::default(),
            world: JoinSet::new(),
        }
    }

    /// Kubelets for the pods of this namespace.
    pub fn kubelets(&mut self, behaviours: Behaviours) {
        let (client, namespace) = (self.ground.user.clone(), self.namespace.clone());
        self.world.spawn(async move {
            let clock = Arc::new(SystemClock);
            let ended = remote::serve(client, clock, 3, Some(&namespace), behaviours).await;
            panic!("the kubelets of {namespace} ended: {ended:?}");
        });
    }

    /// A gateway that accepts the routes of this namespace. The cluster in the binary has one, which
    /// wants an object to stand for it.
    pub async fn gateway(&mut self, served: bool) {
        if !served {
            let (ground, namespace) = (self.ground.clone(), self.namespace.clone());
            self.world.spawn(write_parents(ground, namespace));
            return;
        }
        let (_, mut gateway) = gateway_of(&self.namespace);
        gateway["apiVersion"] = json!("gateway.networking.k8s.io/v1");
        gateway["kind"] = json!("Gateway");
        let key = ResourceKey::new("gateway.networking.k8s.io", "v1", "gateways");
        Http::post(self.path(&key, ""), gateway).send(&self.ground.user).await.unwrap();
    }

    /// What a story needs besides the controller.
    pub async fn furnish(&mut self, script: &Script) {
        self.kubelets(script.kubelet());
        self.gateway(false).await;
        if let Some((host, rate)) = &script.scenario.load {
            let mut answers = pods::Behaviours::default();
            for (image, behaviour) in &script.scenario.answers {
                answers.set(image, behaviour.clone());
            }
            let traffic = VirtualTraffic::new(vec![Visitor::plain(host)], *rate, answers, 1);
            let db = SharedTsdb::new(std::sync::RwLock::new(Tsdb::new(3_600_000)));
            let clock: Arc<dyn Clock> = Arc::new(SystemClock);
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            self.prometheus = Some(format!("http://{}", listener.local_addr().unwrap()));
            let api = router(Engine::default(), db.clone(), clock);
            self.world.spawn(async move { axum::serve(listener, api).await.unwrap() });
            let (ground, outcomes) = (self.ground.clone(), self.outcomes.clone());
            self.world.spawn(load(ground, self.namespace.clone(), traffic, db, outcomes));
        }
    }

    /// Starts the controller.
    pub fn start(&mut self) {
        let prometheus = self.prometheus.as_deref();
        let more = prometheus.map_or(vec![], |address| vec!["--prometheus", address]);
        self.controller = Some(Controller::start(&self.ground.account, &self.namespace, &more));
    }

    /// The path of a collection, or of an object.
    pub fn path(&self, key: &ResourceKey, name: &str) -> String {
        let root = if key.group.is_empty() { "/api".to_owned() } else { "/apis".to_owned() };
        let tail = if name.is_empty() { String::new() } else { format!("/{name}") };
        let version = key.api_version();
        format!("{root}/{version}/namespaces/{}/{}{tail}", self.namespace, key.plural)
    }
}

/// The gateway's own objects in this namespace.
fn gateway_of(namespace: &str) -> (Value, Value) {
    let class = json!({"metadata": {"name": "sim"},
        "spec": {"controllerName": gateway::CONTROLLER}});
    let gateway = json!({
        "metadata": {"name": "web", "namespace": namespace},
        "spec": {"gatewayClassName": "sim",
            "listeners": [{"name": "http", "protocol": "HTTP", "port": 80}]},
    });
    (class, gateway)
}

fn view_of(book: &Book, namespace: &str) -> View {
    let (class, gateway) = gateway_of(namespace);
    let mut objects = gateway::Objects {
        classes: vec![Arc::new(class)],
        gateways: vec![Arc::new(gateway)],
        ..Default::default()
    };
    for (plural, object) in book.now(namespace) {
        match &*plural {
            "httproutes" => objects.routes.push(object),
            "services" => objects.services.push(object),
            "endpointslices" => objects.slices.push(object),
            _ => {}
        }
    }
    View::new(&objects)
}

/// What a gateway has to say of the routes of a namespace: resource, route, status.
fn unsaid(book: &Book, namespace: &str) -> Vec<(String, String, Value)> {
    let (_, parent) = gateway_of(namespace);
    let view = view_of(book, namespace);
    let exists = |backend: &gateway::Backend| view.exists(backend);
    let gateways = [&parent];
    let around = Surroundings { gateways: &gateways, exists: &exists, now: Timestamp::UNIX_EPOCH };
    let all = book.now(namespace).into_iter().filter(|(plural, _)| plural.ends_with("routes"));
    all.filter_map(|(plural, route)| {
        let status = parents_status(&route, &around);
        let name = route["metadata"]["name"].as_str()?.to_owned();
        (route["status"] != status).then_some((plural, name, status))
    })
    .collect()
}

/// Writes it.
async fn write_parents(ground: Arc<Ground>, namespace: String) {
    let at = format!("/apis/gateway.networking.k8s.io/v1/namespaces/{namespace}");
    loop {
        for (plural, name, status) in unsaid(&ground.book, &namespace) {
            let body = json!({"status": status});
            let _raced =
                Http::merge(format!("{at}/{plural}/{name}/status"), body).send(&ground.user).await;
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// Requests every second, and a scrape.
async fn load(
    ground: Arc<Ground>,
    namespace: String,
    mut traffic: VirtualTraffic,
    db: SharedTsdb,
    outcomes: Arc<Mutex<Outcomes>>,
) {
    let mut scraper = Scraper::default();
    let mut known: BTreeMap<String, (Instant, Arc<Value>)> = BTreeMap::new();
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    loop {
        tick.tick().await;
        let view = view_of(&ground.book, &namespace);
        let now = Instant::now();
        let there: Vec<Arc<Value>> = ground
            .book
            .now(&namespace)
            .into_iter()
            .filter(|(plural, _)| plural == "pods")
            .map(|(_, pod)| pod)
            .collect();
        for pod in &there {
            known.insert(pod["metadata"]["name"].to_string(), (now, pod.clone()));
        }
        known.retain(|_, (seen, _)| now.duration_since(*seen) < LAST_ANSWERS);
        let answering: Vec<Arc<Value>> = known.values().map(|(_, pod)| pod.clone()).collect();
        traffic.tick(&view, &answering, 1.0);
        outcomes.lock().unwrap().clone_from(traffic.outcomes());
        let pages = traffic.pages(&there);
        let at = SystemClock.now().as_millisecond();
        scraper.store(&mut db.write().unwrap(), &pages, at);
    }
}

impl Cluster for Plot {
    fn now(&self) -> Timestamp {
        SystemClock.now()
    }

    async fn pass(&mut self, span: Duration) {
        sleep(span).await;
    }

    fn objects(&self) -> Objects {
        let mut out = Objects::default();
        out.failed_elsewhere = self.outcomes.lock().unwrap().failed_elsewhere;
        let kinds = Objects::kinds().unwrap();
        for (plural, object) in self.ground.book.now(&self.namespace) {
            if let Some((kind, _)) = kinds.iter().find(|(_, key)| key.plural == plural) {
                out.add(kind, (*object).clone());
            }
        }
        out
    }

    async fn create(&mut self, manifest: &Value) -> Result<Value, String> {
        let at = self.path(&resource_of(manifest), "");
        let sent = Http::post(at, manifest.clone()).send(&self.ground.user).await;
        sent.map_err(|e| e.to_string())
    }

    async fn perform(&mut self, deed: &Deed) -> Result<(), String> {
        let request = match deed {
            Deed::Controller(true) => {
                self.start();
                return Ok(());
            }
            Deed::Controller(false) => {
                self.controller = None;
                return Ok(());
            }
            // Stories with hooks are played in memory alone.
            Deed::Expect(_) | Deed::Hook(..) => return Ok(()),
            Deed::Alert { rollout, body } => {
                let path = format!("{}/status", self.path(&rollouts(), rollout));
                let account = client_of(&self.ground.account).await?;
                let sent = Http::merge(path, body.clone()).send(&account).await;
                return sent.map(|_| ()).map_err(|e| e.to_string());
            }
            Deed::Create { body, .. } => return self.create(body).await.map(|_| ()),
            Deed::Delete { key, name } => Http::delete(self.path(key, name), json!({})),
            Deed::Patch { key, name, subresource, body } => {
                let tail = subresource.map_or(String::new(), |sub| format!("/{sub}"));
                Http::merge(format!("{}{tail}", self.path(key, name)), body.clone())
            }
        };
        request.send(&self.ground.user).await.map(|_| ()).map_err(|e| e.to_string())
    }

    fn changes(&mut self) -> Vec<Seen> {
        self.ground.book.changes(&self.namespace)
    }
}
