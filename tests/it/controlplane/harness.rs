//! Starts the real control plane once for each run of the test binary, and ends it with the binary.

use std::fmt::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::discovery::ApiResource;
use kube::{Client, core::GroupVersionKind};
use serde_json::{Value, json};

/// Who makes a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// `system:masters`: the harness itself.
    Admin,
    /// Somebody with every right: a person, a GitOps tool.
    User,
    /// The controller's account.
    Sluice,
}

impl Who {
    /// The user name as the API server knows it.
    pub fn name(self) -> &'static str {
        match self {
            Who::Admin => "admin",
            Who::User => "user",
            Who::Sluice => "sluice",
        }
    }
}

/// A running etcd, kube-apiserver and kube-controller-manager.
pub struct ControlPlane {
    dir: PathBuf,
    url: String,
    /// Ends the servers when its standard input closes, however this process ends.
    _supervisor: Mutex<Child>,
}

const SUPERVISOR: &str = r#"
cd "$1"; bin=$2 etcd=$3 peer=$4 api=$5 kcm=$6
"$bin/server" --data-dir="$1/etcd" --unsafe-no-fsync --log-level=warn \
  --listen-client-urls="http://127.0.0.1:$etcd" --advertise-client-urls="http://127.0.0.1:$etcd" \
  --listen-peer-urls="http://127.0.0.1:$peer" --initial-advertise-peer-urls="http://127.0.0.1:$peer" \
  --initial-cluster="default=http://127.0.0.1:$peer" </dev/null >etcd.log 2>&1 &
"$bin/kube-apiserver" --etcd-servers="http://127.0.0.1:$etcd" --bind-address=127.0.0.1 \
  --advertise-address=127.0.0.1 --secure-port="$api" --cert-dir="$1/certs" \
  --service-account-key-file=sa.key --service-account-signing-key-file=sa.key \
  --service-account-issuer=https://kubernetes.default.svc --token-auth-file=tokens.csv \
  --authorization-mode=RBAC --service-cluster-ip-range=10.0.0.0/24 \
  --disable-admission-plugins=ServiceAccount --endpoint-reconciler-type=none \
  </dev/null >kube-apiserver.log 2>&1 &
( until grep -q ok <(curl -sk --max-time 1 "https://127.0.0.1:$api/readyz"); do sleep 0.1; done
  exec "$bin/kube-controller-manager" --kubeconfig=admin.kubeconfig --leader-elect=false \
  --bind-address=127.0.0.1 --secure-port="$kcm" --service-account-private-key-file=sa.key \
  --kube-api-qps=500 --kube-api-burst=1000 \
  --controllers='*,-nodelifecycle,-taint-eviction-controller' ) \
  </dev/null >kube-controller-manager.log 2>&1 &
exec 2>/dev/null
cat >/dev/null
kill -9 $(jobs -p)
wait
[ -e failed ] || { cd /; rm -rf "$1"; }
"#;

/// The one control plane of this test run. `None`, said aloud, where it cannot be built.
pub fn shared() -> Option<&'static ControlPlane> {
    static SHARED: OnceLock<Option<ControlPlane>> = OnceLock::new();
    SHARED
        .get_or_init(|| {
            // A test runs inside a runtime, in which another one cannot be started.
            std::thread::spawn(start).join().expect("the control plane starts")
        })
        .as_ref()
}

/// One that a test has to itself, because it takes Sluice away.
pub fn own() -> Option<ControlPlane> {
    std::thread::spawn(start).join().expect("the control plane starts")
}

fn start() -> Option<ControlPlane> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let build = Command::new(root.join("tests/controlplane/build"))
        .output()
        .expect("bash runs tests/controlplane/build");
    let said = String::from_utf8_lossy(&build.stderr);
    match build.status.code() {
        Some(0) => {}
        Some(3) if std::env::var("CI").as_deref() != Ok("true") => {
            eprintln!("SKIP: no real control plane: {said}");
            return None;
        }
        code => panic!("tests/controlplane/build ended with {code:?}: {said}"),
    }
    let _ = rustls::crypto::ring::default_provider().install_default();
    let plane = ControlPlane::spawn(&root.join("target/controlplane"));
    keep_logs_on_panic(plane.dir.clone());
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(plane.furnish(root));
    Some(plane)
}

/// A failed test keeps the servers' logs: the supervisor leaves the folder when it finds the mark.
fn keep_logs_on_panic(dir: PathBuf) {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        before(info);
        if std::fs::write(dir.join("failed"), info.to_string()).is_ok() {
            eprintln!("logs of the control plane: {}", dir.display());
        }
    }));
}

fn free_ports() -> [u16; 4] {
    // All are held at once, so that they differ.
    let held = [(); 4].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    held.map(|listener| listener.local_addr().expect("a bound socket").port())
}

impl ControlPlane {
    fn spawn(bin: &Path) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("sluice-controlplane-")
            .tempdir()
            .expect("a temporary folder")
            .keep();
        let [etcd, peer, api, kcm] = free_ports();
        let url = format!("https://127.0.0.1:{api}");
        let mut tokens = String::new();
        for who in [Who::Admin, Who::User, Who::Sluice] {
            let name = who.name();
            let groups = if who == Who::Admin { ",system:masters" } else { "" };
            writeln!(tokens, "{name}-token,{name},{name}{groups}").expect("a string grows");
            let config = json!({
                "apiVersion": "v1", "kind": "Config", "current-context": "it",
                "clusters": [{"name": "it", "cluster":
                    {"server": url, "insecure-skip-tls-verify": true}}],
                "users": [{"name": name, "user": {"token": format!("{name}-token")}}],
                "contexts": [{"name": "it", "context": {"cluster": "it", "user": name}}],
            });
            std::fs::write(dir.join(format!("{name}.kubeconfig")), config.to_string())
                .expect("a kubeconfig is written");
        }
        std::fs::write(dir.join("tokens.csv"), tokens).expect("the tokens are written");
        let key = Command::new("openssl")
            .args(["genrsa", "-out"])
            .arg(dir.join("sa.key"))
            .arg("2048")
            .output()
            .expect("openssl makes the key that service accounts are signed with");
        assert!(key.status.success(), "openssl: {}", String::from_utf8_lossy(&key.stderr));
        let supervisor = Command::new("bash")
            .args(["-c", SUPERVISOR, "supervisor"])
            .arg(&dir)
            .arg(bin)
            .args([etcd, peer, api, kcm].map(|port| port.to_string()))
            .stdin(Stdio::piped())
            .spawn()
            .expect("bash starts the servers");
        Self { dir, url, _supervisor: Mutex::new(supervisor) }
    }

    /// A client that makes its requests as `who`. It belongs to the runtime it was made in.
    pub fn client(&self, who: Who) -> Client {
        let mut config = kube::Config::new(self.url.parse().expect("a URL"));
        config.accept_invalid_certs = true;
        config.auth_info.token = Some(format!("{}-token", who.name()).into());
        Client::try_from(config).expect("a client")
    }

    /// The kubeconfig of `who`.
    pub fn kubeconfig(&self, who: Who) -> PathBuf {
        self.dir.join(format!("{}.kubeconfig", who.name()))
    }

    /// Waits until the servers answer, then installs what every test needs.
    async fn furnish(&self, root: &Path) {
        let client = self.client(Who::Admin);
        until("the API server is ready", async || {
            let request = http::Request::get("/readyz").body(Vec::new()).expect("a request");
            client.request_text(request).await.map(|text| text == "ok")
        })
        .await;
        until("the namespace default exists", async || {
            let api: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(client.clone());
            api.get_opt("default").await.map(|found| found.is_some())
        })
        .await;
        let mut objects = vec![
            json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
                "metadata": {"name": "it"},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole",
                    "name": "cluster-admin"},
                "subjects": [{"kind": "User", "name": "user",
                    "apiGroup": "rbac.authorization.k8s.io"},
                    {"kind": "User", "name": "sluice",
                    "apiGroup": "rbac.authorization.k8s.io"}]}),
        ];
        objects.extend(documents(&root.join("target/controlplane/crds")));
        install(&client, objects).await;
        add_node(&client).await;
        furnish(&client).await;
    }
}

/// Installs our definitions, waits until they are served, then the shipped policies.
pub async fn furnish(client: &Client) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    install(client, documents(&root.join("crds"))).await;
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    until("every CRD is established", async || {
        let list = api.list(&Default::default()).await?;
        Ok(list.items.iter().all(|crd| {
            let conditions = crd.status.as_ref().and_then(|status| status.conditions.as_ref());
            conditions.is_some_and(|all| {
                all.iter().any(|one| one.type_ == "Established" && one.status == "True")
            })
        }))
    })
    .await;
    install(client, documents(&root.join("charts/sluice/policies"))).await;
    install(client, documents(&root.join("charts/sluice/lint"))).await;
}

async fn install(client: &Client, objects: Vec<Value>) {
    for object in objects {
        let object: DynamicObject = serde_json::from_value(object).expect("an object");
        let types = object.types.clone().expect("a kind");
        let kind = GroupVersionKind::try_from(&types).expect("an apiVersion");
        let api: Api<DynamicObject> = Api::all_with(client.clone(), &ApiResource::from_gvk(&kind));
        let name = object.metadata.name.clone().expect("a name");
        let params = PatchParams::apply("it").force();
        api.patch(&name, &params, &Patch::Apply(&object))
            .await
            .unwrap_or_else(|error| panic!("{} {name}: {error}", types.kind));
    }
}

/// One ready node without taints: admission taints a new one and nobody here would clear it.
async fn add_node(client: &Client) {
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-1"}});
    install(client, vec![node]).await;
    let api: Api<Node> = Api::all(client.clone());
    let taints = Patch::Merge(json!({"spec": {"taints": null}}));
    api.patch("node-1", &PatchParams::default(), &taints).await.expect("no taints");
    let status = Patch::Merge(json!({"status": {
        "allocatable": {"cpu": "64", "memory": "256Gi", "pods": "1000"},
        "capacity": {"cpu": "64", "memory": "256Gi", "pods": "1000"},
        "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}]}}));
    api.patch_status("node-1", &PatchParams::default(), &status).await.expect("a ready node");
}

async fn until(what: &str, test: impl AsyncFn() -> kube::Result<bool>) {
    let began = Instant::now();
    loop {
        let answer = test().await;
        if matches!(answer, Ok(true)) {
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(120), "{what}: {answer:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Every YAML document of every file of a folder, in the order of the file names.
fn documents(folder: &Path) -> Vec<Value> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "yaml"))
        .collect();
    files.sort();
    let mut all = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).expect("a readable file");
        let parsed: Vec<Value> = serde_saphyr::from_multiple(&text)
            .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        all.extend(parsed.into_iter().filter(|document| !document.is_null()));
    }
    all
}
