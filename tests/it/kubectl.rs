//! The real kubectl against the in-memory API server, over HTTP.
//!
//! `kubectl` on PATH is used, and the binaries that `KUBECTL_137` and `KUBECTL_132` name. One that is
//! missing is skipped with a line that says so; with `CI=true` that is a failure.

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
};

use serde_json::{Value, json};
use sluice::{
    clock::SystemClock,
    sim::{
        apiserver::{ApiServer, ResourceKey, Tokens, kubeconfig},
        plugins,
    },
};
use tempfile::TempDir;
use tokio::{net::TcpListener, runtime::Runtime, sync::oneshot};

/// A served cluster, and one kubectl to talk to it.
struct Cluster {
    server: ApiServer,
    kubectl: String,
    folder: TempDir,
    stop: Option<oneshot::Sender<()>>,
    // Dropped last: it runs the server.
    _runtime: Runtime,
}

/// Every kubectl that this machine has.
pub fn kubectls() -> Vec<String> {
    let newer = std::env::var("KUBECTL_137").unwrap_or_else(|_| "KUBECTL_137 is not set".into());
    let older = std::env::var("KUBECTL_132").ok();
    let works = |program: &String| {
        let version = Command::new(program).args(["version", "--client"]).output();
        let works = version.is_ok_and(|output| output.status.success());
        if !works {
            println!("SKIP: no kubectl at {program}");
            let ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
            assert!(!ci, "CI must have kubectl and KUBECTL_137");
        }
        works
    };
    ["kubectl".to_owned(), newer].into_iter().chain(older).filter(works).collect()
}

/// Every kubectl, each with a cluster of its own.
fn clusters() -> Vec<Cluster> {
    kubectls().into_iter().map(Cluster::start).collect()
}

impl Cluster {
    fn start(kubectl: String) -> Self {
        let server = plugins::api_server(Arc::new(SystemClock));
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let tokens = Tokens::from([("secret".to_owned(), "admin".to_owned())]);
        let served = server.clone().serve(listener, tokens, async move {
            stopped.await.ok();
        });
        runtime.spawn(served);
        let folder = TempDir::new().unwrap();
        std::fs::write(folder.path().join("config"), kubeconfig(address, "secret")).unwrap();
        Self { server, kubectl, folder, stop: Some(stop), _runtime: runtime }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.kubectl);
        let path = |name: &str| self.folder.path().join(name);
        command.env("KUBECONFIG", path("config")).env("HOME", path("home"));
        command.arg("--cache-dir").arg(path("cache")).args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn spawn(&self, arguments: &[&str]) -> Child {
        self.command(arguments).spawn().unwrap()
    }

    /// Runs kubectl with an input; answers with its standard output, or with what it complained.
    fn try_with(&self, arguments: &[&str], input: &str) -> Result<String, String> {
        let mut child = self.spawn(arguments);
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let complaint = text(output.stderr);
        if output.status.success() { Ok(text(output.stdout)) } else { Err(complaint) }
    }

    fn run(&self, arguments: &[&str]) -> String {
        self.with(arguments, "")
    }

    fn with(&self, arguments: &[&str], input: &str) -> String {
        self.try_with(arguments, input).unwrap_or_else(|complaint| {
            panic!("{} {}: {complaint}", self.kubectl, arguments.join(" "))
        })
    }

    fn deployment(&self) -> Arc<Value> {
        self.server.get(&ResourceKey::DEPLOYMENTS, "default", "web").unwrap()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop.take().map(|stop| stop.send(()));
    }
}

const WEB: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: default}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: app, image: 'app:1', env: [{name: A, value: '1'}]}
      - {name: proxy, image: 'proxy:1'}
";

const WIDGETS: &str = "
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.io}
spec:
  group: example.io
  scope: Namespaced
  names: {plural: widgets, singular: widget, kind: Widget, shortNames: [wi]}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}}
    additionalPrinterColumns:
    - {name: Phase, type: string, jsonPath: .status.phase}
    - {name: Ready, type: string, jsonPath: '.status.conditions[?(@.type==\"Ready\")].status'}
    - {name: Age, type: date, jsonPath: .metadata.creationTimestamp}
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            description: What the widget is to be.
            properties: {size: {type: integer}}
          status: {type: object, x-kubernetes-preserve-unknown-fields: true}
";

const WIDGET: &str = "
apiVersion: example.io/v1
kind: Widget
metadata: {name: w, namespace: default}
spec: {size: 1}
";

fn words(text: &str) -> Vec<Vec<&str>> {
    text.lines().map(|line| line.split_whitespace().collect()).collect()
}

#[test]
fn it_lists_what_is_served() {
    for cluster in clusters() {
        let resources = cluster.run(&["api-resources", "-o", "name"]);
        for name in
            ["pods", "deployments.apps", "events.events.k8s.io", "leases.coordination.k8s.io"]
        {
            assert!(resources.lines().any(|line| line == name), "{name} in {resources}");
        }
        let version = cluster.run(&["version", "-o", "json"]);
        let version: Value = serde_json::from_str(&version).unwrap();
        assert_eq!(version["serverVersion"]["gitVersion"], "v1.36.3");
        let user = cluster.run(&["auth", "whoami", "-o", "jsonpath={.status.userInfo.username}"]);
        assert_eq!(user, "admin");
    }
}

#[test]
fn it_applies_a_deployment_and_shows_it() {
    for cluster in clusters() {
        let applied = cluster.with(&["apply", "-f", "-"], WEB);
        assert_eq!(applied, "deployment.apps/web created\n");
        assert_eq!(cluster.with(&["apply", "-f", "-"], WEB), "deployment.apps/web unchanged\n");
        let table = cluster.run(&["get", "deploy"]);
        assert_eq!(words(&table)[0], ["NAME", "READY", "UP-TO-DATE", "AVAILABLE", "AGE"]);
        assert_eq!(words(&table)[1][..4], ["web", "0/3", "0", "0"]);
        let wide = cluster.run(&["get", "deploy", "-A", "-o", "wide"]);
        assert!(wide.contains("app,proxy") && wide.contains("app:1,proxy:1"), "{wide}");
        let described = cluster.run(&["describe", "deploy", "web"]);
        assert!(described.contains("app:1") && described.contains("3 desired"), "{described}");
        let changed = WEB.replace("app:1", "app:2").replace("replicas: 3", "replicas: 5");
        let applied = cluster.with(&["apply", "-f", "-"], &changed);
        assert_eq!(applied, "deployment.apps/web configured\n");
        let stored = cluster.deployment();
        assert_eq!(stored["spec"]["replicas"], 5);
        let containers = stored["spec"]["template"]["spec"]["containers"].as_array().unwrap();
        assert_eq!((containers.len(), &containers[0]["image"]), (2, &json!("app:2")));
        assert_eq!(containers[0]["env"][0]["value"], "1");
    }
}

#[test]
fn it_sets_an_image_scales_and_pauses() {
    for cluster in clusters() {
        cluster.with(&["apply", "-f", "-"], WEB);
        cluster.run(&["set", "image", "deploy/web", "proxy=proxy:2"]);
        cluster.run(&["set", "env", "deploy/web", "-c", "app", "B=2"]);
        cluster.run(&["scale", "deploy/web", "--replicas=7", "--current-replicas=3"]);
        cluster.run(&["rollout", "pause", "deploy/web"]);
        let stored = cluster.deployment();
        let containers = &stored["spec"]["template"]["spec"]["containers"];
        assert_eq!(
            (&containers[0]["image"], &containers[1]["image"]),
            (&json!("app:1"), &json!("proxy:2"))
        );
        assert_eq!(
            containers[0]["env"],
            json!([{"name": "A", "value": "1"}, {"name": "B", "value": "2"}])
        );
        assert_eq!(
            (&stored["spec"]["replicas"], &stored["spec"]["paused"]),
            (&json!(7), &json!(true))
        );
        cluster.run(&["rollout", "resume", "deploy/web"]);
        assert!(cluster.deployment()["spec"].get("paused").is_none());
    }
}

#[test]
fn it_patches_in_every_way() {
    for cluster in clusters() {
        cluster.with(&["apply", "-f", "-"], WEB);
        let patch = |kind: &str, patch: &str| {
            cluster.run(&["patch", "deploy", "web", "--type", kind, "-p", patch]);
            cluster.deployment()
        };
        let stored = patch("merge", r#"{"spec":{"minReadySeconds":5}}"#);
        assert_eq!(stored["spec"]["minReadySeconds"], 5);
        let stored = patch(
            "json",
            r#"[{"op":"test","path":"/spec/replicas","value":3},
            {"op":"replace","path":"/spec/replicas","value":4}]"#,
        );
        assert_eq!(stored["spec"]["replicas"], 4);
        let stored = patch(
            "strategic",
            r#"{"spec":{"template":{"spec":{"containers":[
            {"name":"proxy","$patch":"delete"},
            {"name":"app","env":[{"name":"C","value":"3"}]}]}}}}"#,
        );
        let containers = stored["spec"]["template"]["spec"]["containers"].as_array().unwrap();
        assert_eq!(containers.len(), 1);
        assert_eq!(containers[0]["env"].as_array().unwrap().len(), 2);
        let failing = r#"[{"op":"test","path":"/spec/replicas","value":9}]"#;
        let refused =
            cluster.try_with(&["patch", "deploy", "web", "--type=json", "-p", failing], "");
        assert!(refused.is_err());
    }
}

#[test]
fn it_applies_from_the_servers_side_and_meets_conflicts() {
    for cluster in clusters() {
        let apply = ["apply", "--server-side", "-f", "-"];
        assert_eq!(cluster.with(&apply, WEB), "deployment.apps/web serverside-applied\n");
        let changed = WEB.replace("replicas: 3", "replicas: 5");
        let other = ["apply", "--server-side", "--field-manager=other", "-f", "-"];
        let refused = cluster.try_with(&other, &changed).unwrap_err();
        assert!(
            refused.contains(
                "Apply failed with 1 conflict: conflict with \"kubectl\": .spec.replicas"
            ),
            "{refused}"
        );
        let force =
            ["apply", "--server-side", "--force-conflicts", "--field-manager=other", "-f", "-"];
        cluster.with(&force, &changed);
        assert_eq!(cluster.deployment()["spec"]["replicas"], 5);
        let without = WEB.replace(", env: [{name: A, value: '1'}]", "");
        let refused = cluster.try_with(&apply, &without).unwrap_err();
        assert!(refused.contains("conflict with \"other\": .spec.replicas"), "{refused}");
    }
}

#[test]
fn it_watches() {
    for cluster in clusters() {
        cluster.with(&["apply", "-f", "-"], WEB);
        let mut child = cluster.spawn(&["get", "deploy", "-w", "--no-headers"]);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.next().unwrap().unwrap().starts_with("web"));
        let status = json!({"status": {"replicas": 3, "readyReplicas": 2}});
        let deployments = &ResourceKey::DEPLOYMENTS;
        cluster.server.patch_status("admin", deployments, "default", "web", status).unwrap();
        let line = lines.next().unwrap().unwrap();
        assert_eq!(line.split_whitespace().nth(1), Some("2/3"));
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

#[test]
fn it_waits_for_conditions_and_deletions() {
    for cluster in clusters() {
        cluster.with(&["apply", "-f", "-"], WEB);
        let wait = ["wait", "--for=condition=Available", "deploy/web", "--timeout=30s"];
        let child = cluster.spawn(&wait);
        let status = json!({"status": {"conditions": [{"type": "Available", "status": "True"}]}});
        let deployments = &ResourceKey::DEPLOYMENTS;
        cluster.server.patch_status("admin", deployments, "default", "web", status).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "deployment.apps/web condition met\n");
        let hold = json!({"metadata": {"finalizers": ["sluice.dev/hold"]}});
        cluster.server.patch_merge("admin", deployments, "default", "web", hold).unwrap();
        let child = cluster.spawn(&["delete", "deploy", "web", "--timeout=30s"]);
        let mut latest = cluster.server.notify();
        let going = || !cluster.deployment()["metadata"]["deletionTimestamp"].is_null();
        cluster._runtime.block_on(async {
            while !going() {
                latest.changed().await.unwrap();
            }
        });
        let free = json!({"metadata": {"finalizers": null}});
        cluster.server.patch_merge("admin", deployments, "default", "web", free).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(cluster.server.get(deployments, "default", "web").is_none());
    }
}

#[test]
fn it_uses_custom_resources() {
    for cluster in clusters() {
        cluster.with(&["apply", "-f", "-"], WIDGETS);
        cluster.run(&["wait", "--for=condition=Established", "crd/widgets.example.io"]);
        cluster.with(&["apply", "-f", "-"], WIDGET);
        let status =
            r#"{"status":{"phase":"Fine","conditions":[{"type":"Ready","status":"True"}]}}"#;
        cluster.run(&["patch", "wi", "w", "--subresource=status", "--type=merge", "-p", status]);
        let table = cluster.run(&["get", "wi"]);
        assert_eq!(words(&table)[0], ["NAME", "PHASE", "READY", "AGE"]);
        assert_eq!(words(&table)[1][..3], ["w", "Fine", "True"]);
        let resized = WIDGET.replace("size: 1", "size: 2");
        assert_eq!(
            cluster.with(&["apply", "-f", "-"], &resized),
            "widget.example.io/w configured\n"
        );
        let named = cluster.run(&["get", "widgets", "-o", "jsonpath={.items[*].spec.size}"]);
        assert_eq!(named, "2");
        let explained = cluster.run(&["explain", "widget.spec"]);
        assert!(explained.contains("What the widget is to be."), "{explained}");
        cluster.run(&["label", "wi", "w", "tier=front"]);
        assert!(cluster.run(&["get", "wi", "-l", "tier=front"]).contains("w "));
        cluster.run(&["delete", "wi", "w"]);
        let gone = cluster.try_with(&["get", "wi", "w"], "").unwrap_err();
        assert_eq!(gone, "Error from server (NotFound): widgets.example.io \"w\" not found\n");
    }
}

#[test]
fn it_explains_built_in_kinds() {
    for cluster in clusters() {
        let explained = cluster.run(&["explain", "deployment.spec.template.spec.containers.image"]);
        assert!(explained.contains("Container image name"), "{explained}");
    }
}

#[test]
fn it_shows_events() {
    for cluster in clusters() {
        cluster.with(&["apply", "-f", "-"], WEB);
        let uid = cluster.deployment()["metadata"]["uid"].clone();
        let event = json!({
            "apiVersion": "events.k8s.io/v1", "kind": "Event",
            "metadata": {"name": "web.1", "namespace": "default"},
            "regarding": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web",
                          "namespace": "default", "uid": uid},
            "reason": "StepPaused", "note": "waiting for approval", "type": "Normal",
            "action": "Pause", "reportingController": "sluice", "reportingInstance": "sluice-0",
            "eventTime": "2026-01-01T00:00:00.000000Z",
        });
        cluster.server.create("sluice", event).unwrap();
        let table = cluster.run(&["get", "events"]);
        assert!(
            table.contains("deployment/web") && table.contains("waiting for approval"),
            "{table}"
        );
        assert!(cluster.run(&["events", "--for", "deploy/web"]).contains("StepPaused"));
        assert!(cluster.run(&["describe", "deploy", "web"]).contains("waiting for approval"));
    }
}

#[test]
fn it_is_refused_without_a_token() {
    for cluster in clusters() {
        let config = cluster.folder.path().join("config");
        let text = std::fs::read_to_string(&config).unwrap().replace("secret", "wrong");
        std::fs::write(Path::new(&config), text).unwrap();
        let refused = cluster.try_with(&["get", "pods"], "").unwrap_err();
        assert!(refused.contains("Unauthorized") || refused.contains("logged in"), "{refused}");
    }
}
