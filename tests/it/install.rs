//! `sluice install` and `sluice uninstall`, as a person runs them.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use serde_json::{Value, json};
use sluice::clock::SystemClock;
use sluice::sim::apiserver::{ApiServer, ResourceKey, Tokens, kubeconfig};
use sluice::sim::plugins;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

/// What an install makes, and what releases leave.
static KINDS: [ResourceKey; 16] = [
    ResourceKey::of("", "v1", "namespaces"),
    ResourceKey::of("", "v1", "services"),
    ResourceKey::of("", "v1", "serviceaccounts"),
    ResourceKey::of("admissionregistration.k8s.io", "v1", "mutatingadmissionpolicies"),
    ResourceKey::of("admissionregistration.k8s.io", "v1", "mutatingadmissionpolicybindings"),
    ResourceKey::VALIDATING_POLICIES,
    ResourceKey::VALIDATING_POLICY_BINDINGS,
    ResourceKey::of("apiextensions.k8s.io", "v1", "customresourcedefinitions"),
    ResourceKey::of("apps", "v1", "deployments"),
    ResourceKey::of("coordination.k8s.io", "v1", "leases"),
    ResourceKey::of("rbac.authorization.k8s.io", "v1", "clusterrolebindings"),
    ResourceKey::of("rbac.authorization.k8s.io", "v1", "clusterroles"),
    ResourceKey::of("rbac.authorization.k8s.io", "v1", "rolebindings"),
    ResourceKey::of("rbac.authorization.k8s.io", "v1", "roles"),
    ResourceKey::of("sluice.dev", "v1beta1", "analysistemplates"),
    ResourceKey::of("sluice.dev", "v1beta1", "gates"),
];

/// A served cluster without controllers.
struct Cluster {
    server: ApiServer,
    folder: TempDir,
    // Dropped last: it runs the server.
    _runtime: Runtime,
}

fn cluster() -> Cluster {
    let server = plugins::api_server(Arc::new(SystemClock));
    let runtime = Runtime::new().unwrap();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    let tokens = Tokens::from([("secret".to_owned(), "admin".to_owned())]);
    runtime.spawn(server.clone().serve(listener, tokens, std::future::pending()));
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("config"), kubeconfig(address, "secret")).unwrap();
    Cluster { server, folder, _runtime: runtime }
}

fn sluice(config: &Path, line: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
    command.args(line.split(' ')).arg("--kubeconfig").arg(config).output().unwrap()
}

fn said(output: &Output) -> String {
    let out = String::from_utf8_lossy(&output.stdout);
    format!("{out}{}", String::from_utf8_lossy(&output.stderr))
}

impl Cluster {
    fn run(&self, line: &str) -> Output {
        sluice(&self.folder.path().join("config"), line)
    }

    /// Kind and name of everything that an install or a release leaves on a server.
    fn objects(&self) -> BTreeSet<String> {
        let list = |kind: &ResourceKey| self.server.list(kind, None);
        KINDS.iter().flat_map(list).map(|object| title(&object)).collect()
    }
}

fn title(object: &Value) -> String {
    let text = |at: &str| object.pointer(at).and_then(Value::as_str).unwrap_or("?").to_owned();
    format!("{} {}", text("/kind"), text("/metadata/name"))
}

#[test]
fn uninstall_leaves_nothing_of_what_install_made_but_the_namespace() {
    let cluster = cluster();
    let before = cluster.objects();
    let installed = cluster.run("install");
    assert!(installed.status.success(), "{}", said(&installed));
    let made: Vec<String> = cluster.objects().difference(&before).cloned().collect();
    for expected in [
        "ClusterRole sluice",
        "CustomResourceDefinition rollouts.sluice.dev",
        "Deployment sluice",
        "MutatingAdmissionPolicy sluice-deployment",
        "ValidatingAdmissionPolicy sluice-lint-template",
    ] {
        assert!(made.contains(&expected.to_owned()), "{expected} is not among {made:?}");
    }
    let again = cluster.run("install");
    assert!(again.status.success(), "installing again changes nothing: {}", said(&again));

    let gone = cluster.run("uninstall");
    assert!(gone.status.success(), "{}", said(&gone));
    let left: Vec<String> = cluster.objects().difference(&before).cloned().collect();
    assert_eq!(left, ["Namespace sluice-system"], "{}", said(&gone));
    let nothing = cluster.run("uninstall");
    assert!(nothing.status.success(), "there is nothing to complain about: {}", said(&nothing));
}

fn template() -> Value {
    json!({
        "apiVersion": "sluice.dev/v1beta1", "kind": "AnalysisTemplate",
        "metadata": {"name": "errors", "namespace": "default"},
        "spec": {"metrics": [{"name": "errors", "successCondition": "result[0] < 1",
            "provider": {"prometheus": {"query": "errors"}}}]},
    })
}

#[test]
fn the_definitions_and_their_objects_stay_when_asked() {
    let cluster = cluster();
    assert!(cluster.run("install").status.success());
    cluster.server.create("admin", template()).unwrap();
    let gone = cluster.run("uninstall --keep-crds");
    assert!(gone.status.success(), "{}", said(&gone));
    let left = cluster.objects();
    assert!(left.contains("AnalysisTemplate errors"), "{left:?}");
    assert!(left.contains("CustomResourceDefinition rollouts.sluice.dev"), "{left:?}");
    assert!(
        !left.contains("Deployment sluice") && !left.contains("ClusterRole sluice"),
        "{left:?}"
    );
}

/// A Deployment as a release holds it, whose Rollout somebody deleted by force.
fn orphan(cluster: &Cluster) {
    let labels = json!({"app": "web"});
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {
            "replicas": 2, "paused": true, "minReadySeconds": 2147483646,
            "progressDeadlineSeconds": 2147483647, "selector": {"matchLabels": labels},
            "strategy": {"type": "RollingUpdate",
                "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}},
            "template": {"metadata": {"labels": labels},
                "spec": {"containers": [{"name": "web", "image": "web:1"}]}},
        },
    });
    let gate = json!({
        "apiVersion": "sluice.dev/v1beta1", "kind": "Gate",
        "metadata": {"name": "sluice", "namespace": "default"},
        "spec": {
            "account": "system:serviceaccount:sluice-system:sluice",
            "deployments": {"web": {"rollout": "web", "release": "r1", "originals": {
                "minReadySeconds": 5, "progressDeadlineSeconds": 300, "type": "RollingUpdate",
                "maxSurge": "25%", "maxUnavailable": "25%"}}},
        },
    });
    cluster.server.create("admin", deployment).unwrap();
    cluster.server.create("admin", gate).unwrap();
}

#[test]
fn a_held_workload_gets_its_own_fields_back_before_anything_goes() {
    let cluster = cluster();
    assert!(cluster.run("install").status.success());
    orphan(&cluster);
    let gone = cluster.run("uninstall --let-go-only");
    assert!(gone.status.success(), "{}", said(&gone));
    let deployments = ResourceKey::of("apps", "v1", "deployments");
    let web = cluster.server.get(&deployments, "default", "web").unwrap();
    let spec = &web["spec"];
    assert_eq!(spec["minReadySeconds"], 5, "{spec}");
    assert_eq!(spec["progressDeadlineSeconds"], 300, "{spec}");
    assert_eq!(spec["strategy"]["rollingUpdate"]["maxSurge"], "25%", "{spec}");
    assert_eq!(spec["paused"], true, "it never runs ahead: {spec}");
    let left = cluster.objects();
    assert!(!left.contains("Gate sluice"), "{left:?}");
    assert!(left.contains("ClusterRole sluice"), "what Helm installed is Helm's: {left:?}");
    let controller = cluster.server.get(&deployments, "sluice-system", "sluice").unwrap();
    assert_eq!(controller["spec"]["replicas"], 0, "two that decide undo each other's work");
}

#[test]
fn a_dry_run_of_an_uninstall_says_what_would_go_and_changes_nothing() {
    let cluster = cluster();
    assert!(cluster.run("install").status.success());
    orphan(&cluster);
    let everything = || {
        let list = |kind: &ResourceKey| cluster.server.list(kind, None);
        KINDS.iter().flat_map(list).map(|object| object.to_string()).collect::<Vec<_>>()
    };
    let before = everything();
    for (line, goes) in
        [("uninstall --dry-run", true), ("uninstall --let-go-only --dry-run", false)]
    {
        let asked = cluster.run(line);
        let text = said(&asked);
        assert!(asked.status.success(), "{text}");
        for words in [
            "Deployment sluice-system/sluice: would be stopped",
            "Deployment default/web: would be let go",
            "Gate default/sluice: would be deleted",
        ] {
            assert!(text.contains(words), "no {words:?} in\n{text}");
        }
        let definition = "CustomResourceDefinition rollouts.sluice.dev: would be deleted";
        assert_eq!(text.contains(definition), goes, "{text}");
        assert!(text.ends_with("nothing was changed\n"), "{text}");
        assert_eq!(everything(), before, "{line}");
    }
}

#[test]
fn an_uninstall_beside_the_controller_changes_nothing_and_says_where_it_runs() {
    let cluster = cluster();
    assert!(cluster.run("install").status.success());
    let before = cluster.objects();
    let refused = cluster.run("uninstall -n other");
    assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
    let words = "the controller runs in sluice-system, not in other";
    assert!(said(&refused).contains(words), "{}", said(&refused));
    assert_eq!(cluster.objects(), before);
    assert_eq!(cluster.run("uninstall --let-go-only -n other").status.code(), Some(1));
}

#[test]
fn an_uninstall_says_what_goes_with_the_definitions() {
    let cluster = cluster();
    assert!(cluster.run("install").status.success());
    cluster.server.create("admin", template()).unwrap();
    let gone = cluster.run("uninstall");
    assert!(gone.status.success(), "{}", said(&gone));
    let words = "with the definitions go their objects: 1 AnalysisTemplate; --keep-crds";
    assert!(said(&gone).contains(words), "{}", said(&gone));
}

#[test]
fn an_address_that_the_controller_would_end_by_is_not_installed() {
    let cluster = cluster();
    let before = cluster.objects();
    let refused = cluster.run("install --prometheus foo");
    assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
    assert!(said(&refused).contains("--prometheus"), "{}", said(&refused));
    assert_eq!(cluster.objects(), before);
}
