//! The Helm chart: its copies are current, it renders what `sluice install` applies, and its roles
//! allow what the code does and no more.
//!
//! Helm is the binary that `HELM` names, or `helm`. Without it those tests say SKIP; with `CI=true`
//! that is a failure.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Parser;
use serde_json::{Value, json};
use sluice::api::crds;
use sluice::cli::Cli;
use sluice::observe::Kind;

fn chart() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("charts/sluice")
}

fn documents(text: &str) -> Vec<Value> {
    let all: Vec<Value> = serde_saphyr::from_multiple(text).unwrap();
    all.into_iter().filter(|document| !document.is_null()).collect()
}

/// What Helm renders with more arguments, or its complaint; `None` without Helm.
fn rendered(more: &[&str]) -> Option<Result<Vec<Value>, String>> {
    let helm = std::env::var("HELM").unwrap_or_else(|_| "helm".to_owned());
    let output = Command::new(helm)
        .args(["template", "sluice"])
        .arg(chart())
        .args(["--namespace", "sluice-system"])
        .args(more)
        .output();
    let Ok(output) = output else {
        let reason = "helm cannot be started: set HELM or put it on PATH";
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{reason}");
        println!("SKIP: {reason}");
        return None;
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Some(if output.status.success() {
        Ok(documents(&text(&output.stdout)))
    } else {
        Err(text(&output.stderr))
    })
}

fn installed() -> Vec<Value> {
    let output = Command::new(env!("CARGO_BIN_EXE_sluice"))
        .args(["install", "--dry-run", "--namespace", "sluice-system"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    documents(&String::from_utf8(output.stdout).unwrap())
}

/// An object's kind and name.
fn title(object: &Value) -> String {
    format!("{} {}", object["kind"].as_str().unwrap(), object["metadata"]["name"].as_str().unwrap())
}

/// Objects by title, without what says only who rendered them.
fn comparable(objects: Vec<Value>) -> BTreeMap<String, Value> {
    let mut out = BTreeMap::new();
    for mut object in objects {
        let meta = object["metadata"].as_object_mut().unwrap();
        if let Some(labels) = meta.get_mut("labels").and_then(Value::as_object_mut) {
            labels.remove("helm.sh/chart");
            labels.remove("app.kubernetes.io/managed-by");
        }
        if meta.get("annotations") == Some(&json!({"helm.sh/resource-policy": "keep"})) {
            meta.remove("annotations");
        }
        let before = out.insert(title(&object), object);
        assert!(before.is_none(), "{before:?} is there twice");
    }
    out
}

#[test]
fn the_definitions_of_the_chart_are_what_the_types_say() {
    let update = std::env::var_os("UPDATE_CRDS").is_some();
    let folder = chart().join("definitions");
    let mut names = BTreeSet::new();
    for crd in crds::all() {
        let name = crds::file_name(&crd);
        let text = crds::yaml(&crd);
        if update {
            std::fs::write(folder.join(&name), &text).unwrap();
        }
        let on_disk = std::fs::read_to_string(folder.join(&name)).unwrap_or_default();
        assert!(
            on_disk == text,
            "charts/sluice/definitions/{name} differs from the types; run with UPDATE_CRDS=1"
        );
        names.insert(name);
    }
    let found: BTreeSet<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(found, names, "one file per kind");
}

#[test]
fn helm_renders_what_install_applies() {
    let Some(chart) = rendered(&["--set", "policies.enabled=true"]) else { return };
    let chart = chart.unwrap();
    let is_hook = |object: &Value| object["metadata"]["annotations"].get("helm.sh/hook").is_some();
    assert_eq!(chart.iter().filter(|object| is_hook(object)).count(), 1, "the pre-delete hook");
    let ours = installed();
    let left_out = |object: &Value| object["kind"] == "Namespace";
    let chart = comparable(chart.into_iter().filter(|object| !is_hook(object)).collect());
    let ours = comparable(ours.into_iter().filter(|object| !left_out(object)).collect());
    let titles = |all: &BTreeMap<String, Value>| all.keys().cloned().collect::<Vec<_>>();
    assert_eq!(titles(&chart), titles(&ours));
    for (title, object) in &chart {
        assert_eq!(object, &ours[title], "{title}");
    }
}

#[test]
fn the_policies_follow_the_value_and_the_api_server() {
    let served = "admissionregistration.k8s.io/v1/MutatingAdmissionPolicy";
    let cases: [(&[&str], bool); 4] = [
        (&["--set", "policies.enabled=true"], true),
        (&["--set", "policies.enabled=false", "--api-versions", served], false),
        (&["--api-versions", served], true),
        (&["--kube-version", "1.32.0"], false),
    ];
    for (arguments, expected) in cases {
        let Some(objects) = rendered(arguments) else { return };
        let objects = objects.unwrap();
        let has = |kind: &str| objects.iter().any(|object| object["kind"] == kind);
        assert_eq!(has("MutatingAdmissionPolicy"), expected, "{arguments:?}");
        // Every Kubernetes that we run on serves these.
        let refused = arguments.contains(&"policies.enabled=false");
        assert_eq!(has("ValidatingAdmissionPolicy"), !refused, "{arguments:?}");
    }
}

#[test]
fn a_value_that_the_chart_does_not_know_is_refused() {
    for wrong in ["replica=3", "prometheus=prometheus:9090", "policies.enabled=perhaps"] {
        let Some(result) = rendered(&["--set", wrong]) else { return };
        let message = result.expect_err(wrong);
        assert!(message.contains("schema"), "{wrong}: {message}");
    }
}

#[test]
fn what_the_chart_starts_is_what_the_command_line_takes() {
    let Some(objects) = rendered(&["--set", "prometheus=http://prometheus:9090"]) else { return };
    let mut started = 0;
    for object in objects.unwrap() {
        let Some(containers) = object.pointer("/spec/template/spec/containers") else { continue };
        for container in containers.as_array().unwrap() {
            let args = container["args"].as_array().unwrap();
            let args = args.iter().map(|argument| argument.as_str().unwrap());
            let parsed = Cli::try_parse_from(std::iter::once("sluice").chain(args));
            assert!(parsed.is_ok(), "{}: {}", title(&object), parsed.unwrap_err());
            started += 1;
        }
    }
    assert_eq!(started, 2, "the controller and the pre-delete hook");
}

/// Group and plural, with the verbs that a file of rules allows.
fn allowed(file: &str) -> BTreeMap<(String, String), BTreeSet<String>> {
    let text = std::fs::read_to_string(chart().join("rbac").join(file)).unwrap();
    let rules: Vec<Value> = serde_saphyr::from_str(&text).unwrap();
    let list = |rule: &Value, key: &str| -> Vec<String> {
        let all = rule[key].as_array().unwrap();
        all.iter().map(|item| item.as_str().unwrap().to_owned()).collect()
    };
    let mut out: BTreeMap<_, BTreeSet<String>> = BTreeMap::new();
    for rule in &rules {
        for group in list(rule, "apiGroups") {
            for resource in list(rule, "resources") {
                let verbs = out.entry((group.clone(), resource)).or_default();
                verbs.extend(list(rule, "verbs"));
            }
        }
    }
    out
}

#[test]
fn the_controller_may_watch_every_kind_it_follows_and_no_other() {
    let followed: BTreeSet<(String, String)> = Kind::ALL
        .into_iter()
        .map(|kind| {
            let (group, _, _, plural) = kind.names();
            (group.to_owned(), plural.to_owned())
        })
        .collect();
    let rules = allowed("controller.yaml");
    let watched: BTreeSet<_> = rules
        .iter()
        .filter(|(_, verbs)| ["get", "list", "watch"].iter().all(|verb| verbs.contains(*verb)))
        .map(|(what, _)| what.clone())
        .collect();
    assert_eq!(watched, followed);
}

#[test]
fn no_role_reaches_beyond_its_purpose() {
    let files = ["controller", "lease", "secrets", "jobs", "admin", "view"];
    for file in files.map(|name| format!("{name}.yaml")) {
        let file = file.as_str();
        for ((group, resource), verbs) in allowed(file) {
            let all = [&group, &resource].into_iter().chain(&verbs).any(|word| word == "*");
            assert!(!all, "{file}: {group}/{resource} has a wildcard");
            if resource == "secrets" {
                assert!(["lease.yaml", "secrets.yaml"].contains(&file), "{file}");
                assert_eq!(verbs.iter().collect::<Vec<_>>(), ["get"], "{file}");
            }
            for verb in ["escalate", "bind", "impersonate"] {
                assert!(!verbs.contains(verb), "{file}: {verb} of {group}/{resource}");
            }
        }
    }
    let view = allowed("view.yaml");
    let reading: BTreeSet<String> = ["get", "list", "watch"].map(str::to_owned).into();
    assert!(view.values().all(|verbs| *verbs == reading), "{view:?}");
    let controller = allowed("controller.yaml");
    for workload in ["deployments", "replicasets", "pods"] {
        let verbs =
            &controller[&(if workload == "pods" { "" } else { "apps" }.into(), workload.into())];
        assert!(!verbs.contains("delete") && !verbs.contains("create"), "{workload}: {verbs:?}");
    }
    // The way out with the controller dead is open to whoever owns the namespace.
    let gates = &allowed("admin.yaml")[&("sluice.dev".into(), "gates".into())];
    assert!(gates.contains("delete") && gates.contains("patch"), "{gates:?}");
}

#[test]
fn the_pre_delete_hook_runs_where_the_controller_runs() {
    let values = [
        "priorityClassName=high",
        "podLabels.team=a",
        "podAnnotations.mesh=off",
        "nodeSelector.pool=system",
        "tolerations[0].key=system",
        "affinity.nodeAffinity.x=y",
    ];
    let more: Vec<&str> = values.iter().flat_map(|value| ["--set", value]).collect();
    let Some(objects) = rendered(&more) else { return };
    let objects = objects.unwrap();
    let template = |kind: &str| {
        let found = objects.iter().find(|object| object["kind"] == kind).unwrap();
        found["spec"]["template"].clone()
    };
    let (hook, controller) = (template("Job"), template("Deployment"));
    for key in ["priorityClassName", "nodeSelector", "tolerations", "affinity"] {
        assert!(!hook["spec"][key].is_null(), "{key}");
        assert_eq!(hook["spec"][key], controller["spec"][key], "{key}");
    }
    assert_eq!(hook["metadata"]["labels"]["team"], "a");
    assert_eq!(hook["metadata"]["annotations"], controller["metadata"]["annotations"]);
}

#[test]
fn polls_without_a_server_to_ask_are_refused() {
    let Some(result) = rendered(&["--set", "alerts.poll.enabled=true"]) else { return };
    assert!(result.unwrap_err().contains("set prometheus or alerts.poll.provider"));
    let provider = ["--set", "alerts.poll.enabled=true,alerts.poll.provider=main"];
    assert!(rendered(&provider).unwrap().is_ok());
}

#[test]
fn the_operators_prometheus_scrapes_the_service_when_asked() {
    let values = "serviceMonitor.enabled=true,serviceMonitor.labels.release=prometheus";
    let Some(objects) = rendered(&["--set", values]) else { return };
    let objects = objects.unwrap();
    let find = |kind: &str| objects.iter().find(|object| object["kind"] == kind).unwrap();
    let (monitor, service) = (find("ServiceMonitor"), find("Service"));
    assert_eq!(monitor["metadata"]["labels"]["release"], "prometheus");
    for (label, value) in monitor["spec"]["selector"]["matchLabels"].as_object().unwrap() {
        assert_eq!(&service["metadata"]["labels"][label], value, "{label}");
    }
    let port = &monitor["spec"]["endpoints"][0]["port"];
    assert_eq!(port, &service["spec"]["ports"][0]["name"]);
}
