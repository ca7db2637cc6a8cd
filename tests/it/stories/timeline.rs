//! What happened in a story, short enough to be read where it failed.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::Value;
use sluice::sim::scenario::Objects;

use super::record::Seen;
use crate::world::image_of;

/// Lines at most: the last ones.
const LINES: usize = 60;

/// The parts of an object that a story turns on; nothing for a kind without any.
fn short(plural: &str, object: &Value) -> Option<String> {
    let spec = &object["spec"];
    Some(match plural {
        "deployments" => {
            let rolling = &spec["strategy"]["rollingUpdate"];
            let (surge, unavailable) = (&rolling["maxSurge"], &rolling["maxUnavailable"]);
            let paused = if spec["paused"] == true { " paused" } else { "" };
            let (image, size) = (image_of(object), &spec["replicas"]);
            format!("deployment {image} x{size} +{surge} -{unavailable}{paused}")
        }
        "replicasets" => {
            let (ready, size) = (&object["status"]["readyReplicas"], &spec["replicas"]);
            format!("{} {ready}/{size}", image_of(object))
        }
        "services" => format!("selects {}", spec["selector"]),
        "httproutes" | "grpcroutes" => {
            let backends = spec["rules"].as_array().into_iter().flatten();
            let refs =
                backends.flat_map(|rule| rule["backendRefs"].as_array().into_iter().flatten());
            refs.map(|b| format!("{}:{} ", b["name"].as_str().unwrap_or_default(), b["weight"]))
                .collect()
        }
        "rollouts" => {
            let status = &object["status"];
            let release = &status["release"];
            let (stage, step, state) = (&release["stage"], &release["step"], &release["state"]);
            let asked = &status["request"]["verb"];
            let phase = &status["phase"];
            format!("{phase} {stage} {step} {state} {asked} {}", status["message"])
        }
        _ => return None,
    })
}

/// A line for each change of what a story turns on.
pub fn timeline(changes: &[Seen]) -> String {
    let mut last: BTreeMap<(String, String), String> = BTreeMap::new();
    let mut lines = Vec::new();
    let Some(first) = changes.first().map(|change| change.at) else { return String::new() };
    for Seen { plural, gone, object, at, .. } in changes {
        let Some(mut text) = short(plural, object) else { continue };
        if *gone {
            "gone".clone_into(&mut text);
        }
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let key = (plural.clone(), name.to_owned());
        if last.insert(key, text.clone()).as_ref() != Some(&text) {
            let seconds = at.duration_since(first).as_secs_f64();
            lines.push(format!("{seconds:7.1}s {plural} {name}: {text}"));
        }
    }
    let skipped = lines.len().saturating_sub(LINES);
    lines.into_iter().skip(skipped).fold(String::new(), |mut all, line| {
        writeln!(all, "  {line}").unwrap();
        all
    })
}

/// Where a story stands: what each Rollout has come to, and the sizes of the ReplicaSets. A deed of the
/// story's on the real cluster waits until it stands where it stood on `sim` when it was done there: the
/// wall clock of a busy machine decides nothing.
pub fn stand(objects: &Objects) -> Vec<String> {
    let rollouts = objects.all("rollout").map(|object| {
        let status = &object["status"];
        let release = &status["release"];
        // What waits for replicas begins its step again, whatever it was doing in it.
        let state = if release["stage"] == "Suspended" { &Value::Null } else { &release["state"] };
        let (stage, step) = (&release["stage"], &release["step"]);
        format!("{} {stage} {step} {state}", status["phase"])
    });
    let sets = objects
        .all("replicaset")
        .map(|object| format!("{} {}", image_of(object), object["spec"]["replicas"]));
    let mut all: Vec<String> = rollouts.chain(sets).collect();
    all.sort();
    all
}
