//! Tables, as kubectl prints them: sensible columns for the kinds that people look at, those of
//! the definition for custom resources, name and age for the rest.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    fields::{meta, text},
    http::partial,
    jsonpath,
    kinds::Kind,
    scale::selector_text,
};

/// A column: name, type, 0 or 1 for `-o wide`, and what its cell shows.
struct Column {
    name: String,
    kind: &'static str,
    priority: i64,
    cell: Cell,
}

type Show = fn(&Value, Timestamp) -> Value;

enum Cell {
    Show(Show),
    Path { path: String, date: bool },
}

/// The table of an object or of a list.
#[must_use]
pub fn of(kind: &Kind, answer: &Value, now: Timestamp) -> Value {
    let columns = columns(kind);
    let single = std::slice::from_ref(answer);
    let items = answer["items"].as_array().map_or(single, Vec::as_slice);
    let metadata = match answer.get("items") {
        Some(_) => answer["metadata"].clone(),
        None => json!({"resourceVersion": meta(answer, "resourceVersion")}),
    };
    let rows: Vec<Value> = items
        .iter()
        .map(|item| {
            let cells: Vec<Value> = columns.iter().map(|c| c.cell.of(item, now)).collect();
            json!({"cells": cells, "object": partial(item)})
        })
        .collect();
    let definitions: Vec<Value> = columns
        .iter()
        .map(|column| {
            let format = if column.name == "Name" { "name" } else { "" };
            json!({"name": column.name, "type": column.kind, "format": format,
                   "description": "", "priority": column.priority})
        })
        .collect();
    json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
           "columnDefinitions": definitions, "rows": rows})
}

impl Cell {
    fn of(&self, object: &Value, now: Timestamp) -> Value {
        match self {
            Self::Show(show) => show(object, now),
            Self::Path { path, date } => {
                let found = jsonpath::find(object, path);
                match found.as_slice() {
                    [] => Value::Null,
                    [Value::String(at), ..] if *date => json!(since(at, now)),
                    [one] => Value::clone(one),
                    many => {
                        let texts: Vec<String> = many.iter().map(|value| plain(value)).collect();
                        json!(texts.join(","))
                    }
                }
            }
        }
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn shown(name: &str, kind: &'static str, priority: i64, show: Show) -> Column {
    Column { name: name.to_owned(), kind, priority, cell: Cell::Show(show) }
}

fn columns(kind: &Kind) -> Vec<Column> {
    let mut columns =
        vec![shown("Name", "string", 0, |object, _| object["metadata"]["name"].clone())];
    if kind.crd.is_some() {
        columns.extend(custom(kind).unwrap_or_else(|| vec![age()]));
        return columns;
    }
    let more = match (kind.key.group.as_ref(), kind.key.plural.as_ref()) {
        ("apps", "deployments") => deployments(),
        ("apps", "replicasets") => replica_sets(),
        ("apps", "statefulsets") => stateful_sets(),
        ("apps", "daemonsets") => daemon_sets(),
        ("", "pods") => pods(),
        ("", "services") => services(),
        ("" | "events.k8s.io", "events") => return events(),
        ("", "nodes") => nodes(),
        ("", "namespaces") => vec![path("Status", ".status.phase"), age()],
        ("", "configmaps" | "secrets") => vec![
            shown("Data", "string", 0, |o, _| json!(o["data"].as_object().map_or(0, |d| d.len()))),
            age(),
        ],
        ("coordination.k8s.io", "leases") => vec![path("Holder", ".spec.holderIdentity"), age()],
        ("discovery.k8s.io", "endpointslices") => endpoint_slices(),
        ("autoscaling", _) => vec![
            path("Reference", ".spec.scaleTargetRef.name"),
            path("MinPods", ".spec.minReplicas"),
            path("MaxPods", ".spec.maxReplicas"),
            path("Replicas", ".status.currentReplicas"),
            age(),
        ],
        ("apiextensions.k8s.io", _) => {
            vec![shown("Created At", "date", 0, |o, _| o["metadata"]["creationTimestamp"].clone())]
        }
        _ => vec![age()],
    };
    columns.extend(more);
    columns
}

/// The columns that a definition names; none means that it names none.
fn custom(kind: &Kind) -> Option<Vec<Column>> {
    let versions = kind.crd.as_ref()?["spec"]["versions"].as_array()?;
    let version = versions.iter().find(|v| text(&v["name"]) == kind.key.version)?;
    let columns = version["additionalPrinterColumns"].as_array()?;
    let column = |given: &Value| {
        let date = text(&given["type"]) == "date";
        Column {
            name: text(&given["name"]).to_owned(),
            kind: match text(&given["type"]) {
                "integer" => "integer",
                "number" => "number",
                "boolean" => "boolean",
                "date" => "date",
                _ => "string",
            },
            priority: given["priority"].as_i64().unwrap_or_default(),
            cell: Cell::Path { path: text(&given["jsonPath"]).to_owned(), date },
        }
    };
    Some(columns.iter().map(column).collect())
}

fn path(name: &str, path: &str) -> Column {
    let cell = Cell::Path { path: path.to_owned(), date: false };
    Column { name: name.to_owned(), kind: "string", priority: 0, cell }
}

fn age() -> Column {
    shown("Age", "string", 0, |object, now| json!(since(meta(object, "creationTimestamp"), now)))
}

fn count(value: &Value) -> i64 {
    value.as_i64().unwrap_or_default()
}

fn deployments() -> Vec<Column> {
    let mut columns = vec![
        shown("Ready", "string", 0, |o, _| {
            json!(format!(
                "{}/{}",
                count(&o["status"]["readyReplicas"]),
                count(&o["spec"]["replicas"])
            ))
        }),
        shown("Up-to-date", "string", 0, |o, _| json!(count(&o["status"]["updatedReplicas"]))),
        shown("Available", "string", 0, |o, _| json!(count(&o["status"]["availableReplicas"]))),
        age(),
    ];
    columns.extend(templates());
    columns
}

fn replica_sets() -> Vec<Column> {
    let mut columns = vec![
        shown("Desired", "integer", 0, |o, _| json!(count(&o["spec"]["replicas"]))),
        shown("Current", "integer", 0, |o, _| json!(count(&o["status"]["replicas"]))),
        shown("Ready", "integer", 0, |o, _| json!(count(&o["status"]["readyReplicas"]))),
        age(),
    ];
    columns.extend(templates());
    columns
}

fn stateful_sets() -> Vec<Column> {
    let mut columns = deployments();
    columns.retain(|column| matches!(column.name.as_str(), "Ready" | "Age"));
    columns.extend(templates().into_iter().take(2));
    columns
}

fn daemon_sets() -> Vec<Column> {
    let mut columns = vec![
        shown("Desired", "integer", 0, |o, _| json!(count(&o["status"]["desiredNumberScheduled"]))),
        shown("Current", "integer", 0, |o, _| json!(count(&o["status"]["currentNumberScheduled"]))),
        shown("Ready", "integer", 0, |o, _| json!(count(&o["status"]["numberReady"]))),
        shown("Up-to-date", "integer", 0, |o, _| {
            json!(count(&o["status"]["updatedNumberScheduled"]))
        }),
        shown("Available", "integer", 0, |o, _| json!(count(&o["status"]["numberAvailable"]))),
        shown("Node Selector", "string", 0, |o, _| {
            let labels = &o["spec"]["template"]["spec"]["nodeSelector"];
            json!(or_none(selector_text(&json!({"matchLabels": labels}))))
        }),
        age(),
    ];
    columns.extend(templates());
    columns
}

/// The wide columns of everything that has a pod template.
fn templates() -> Vec<Column> {
    fn each(object: &Value, field: &str) -> Value {
        let containers = object["spec"]["template"]["spec"]["containers"].as_array();
        let values = containers.into_iter().flatten().map(|c| text(&c[field]));
        json!(values.collect::<Vec<_>>().join(","))
    }
    vec![
        shown("Containers", "string", 1, |o, _| each(o, "name")),
        shown("Images", "string", 1, |o, _| each(o, "image")),
        shown("Selector", "string", 1, |o, _| json!(selector_text(&o["spec"]["selector"]))),
    ]
}

fn pods() -> Vec<Column> {
    vec![
        shown("Ready", "string", 0, |o, _| {
            let statuses = o["status"]["containerStatuses"].as_array();
            let ready = statuses.into_iter().flatten().filter(|s| s["ready"] == true).count();
            let all = o["spec"]["containers"].as_array().map_or(0, Vec::len);
            json!(format!("{ready}/{all}"))
        }),
        shown("Status", "string", 0, |o, _| json!(pod_status(o))),
        shown("Restarts", "string", 0, |o, _| {
            let statuses = o["status"]["containerStatuses"].as_array();
            let restarts: i64 =
                statuses.into_iter().flatten().map(|s| count(&s["restartCount"])).sum();
            json!(restarts.to_string())
        }),
        age(),
        wide("IP", ".status.podIP"),
        wide("Node", ".spec.nodeName"),
        wide("Nominated Node", ".status.nominatedNodeName"),
        shown("Readiness Gates", "string", 1, |_, _| json!("<none>")),
    ]
}

fn wide(name: &str, path: &str) -> Column {
    let cell = Cell::Path { path: path.to_owned(), date: false };
    Column { name: name.to_owned(), kind: "string", priority: 1, cell }
}

fn pod_status(pod: &Value) -> String {
    let statuses = pod["status"]["containerStatuses"].as_array();
    let reason = statuses.into_iter().flatten().find_map(|status| {
        let state = &status["state"];
        let reason = [&state["waiting"]["reason"], &state["terminated"]["reason"]];
        reason.into_iter().find_map(Value::as_str)
    });
    let reason = reason.or(pod["status"]["reason"].as_str());
    if !meta(pod, "deletionTimestamp").is_empty() {
        return "Terminating".to_owned();
    }
    reason.unwrap_or(text(&pod["status"]["phase"])).to_owned()
}

fn services() -> Vec<Column> {
    vec![
        shown("Type", "string", 0, |o, _| json!(o["spec"]["type"].as_str().unwrap_or("ClusterIP"))),
        shown("Cluster-IP", "string", 0, |o, _| {
            json!(or_none(text(&o["spec"]["clusterIP"]).to_owned()))
        }),
        shown("External-IP", "string", 0, |_, _| json!("<none>")),
        shown("Port(s)", "string", 0, |o, _| {
            let ports = o["spec"]["ports"].as_array().into_iter().flatten();
            let ports = ports.map(|port| {
                let protocol = port["protocol"].as_str().unwrap_or("TCP");
                match port["nodePort"].as_i64() {
                    Some(node) => format!("{}:{node}/{protocol}", port["port"]),
                    None => format!("{}/{protocol}", port["port"]),
                }
            });
            json!(or_none(ports.collect::<Vec<_>>().join(",")))
        }),
        age(),
        shown("Selector", "string", 1, |o, _| {
            json!(or_none(selector_text(&json!({"matchLabels": o["spec"]["selector"]}))))
        }),
    ]
}

fn endpoint_slices() -> Vec<Column> {
    vec![
        path("AddressType", ".addressType"),
        shown("Ports", "string", 0, |o, _| {
            let ports = o["ports"].as_array().into_iter().flatten();
            json!(or_none(ports.map(|port| port["port"].to_string()).collect::<Vec<_>>().join(",")))
        }),
        shown("Endpoints", "string", 0, |o, _| {
            let all = jsonpath::find(o, ".endpoints[*].addresses[*]");
            json!(or_none(all.into_iter().map(text).collect::<Vec<_>>().join(",")))
        }),
        age(),
    ]
}

fn nodes() -> Vec<Column> {
    vec![
        shown("Status", "string", 0, |o, _| {
            let ready = jsonpath::find(o, ".status.conditions[?(@.type==\"Ready\")].status");
            let ready = ready.first().is_some_and(|status| *status == "True");
            let cordoned = o["spec"]["unschedulable"] == true;
            json!(match (ready, cordoned) {
                (true, false) => "Ready",
                (true, true) => "Ready,SchedulingDisabled",
                (false, false) => "NotReady",
                (false, true) => "NotReady,SchedulingDisabled",
            })
        }),
        shown("Roles", "string", 0, |_, _| json!("<none>")),
        age(),
        path("Version", ".status.nodeInfo.kubeletVersion"),
    ]
}

fn events() -> Vec<Column> {
    vec![
        shown("Last Seen", "string", 0, |o, now| {
            let at = first(o, &["lastTimestamp", "deprecatedLastTimestamp", "eventTime"]);
            let at = if at.is_empty() { meta(o, "creationTimestamp") } else { at };
            json!(since(at, now))
        }),
        path("Type", ".type"),
        path("Reason", ".reason"),
        shown("Object", "string", 0, |o, _| {
            let object = if o.get("regarding").is_some() { "regarding" } else { "involvedObject" };
            let (kind, name) = (text(&o[object]["kind"]), text(&o[object]["name"]));
            json!(format!("{}/{name}", kind.to_lowercase()))
        }),
        shown("Message", "string", 0, |o, _| json!(first(o, &["message", "note"]).trim())),
        wide("Subobject", ".involvedObject.fieldPath"),
        wide("Source", ".source.component"),
        shown("Count", "string", 1, |o, _| {
            json!(o["count"].as_i64().or(o["series"]["count"].as_i64()).unwrap_or(1))
        }),
        shown("Name", "string", 1, |o, _| o["metadata"]["name"].clone()),
    ]
}

fn first<'a>(object: &'a Value, names: &[&str]) -> &'a str {
    names.iter().map(|name| text(&object[*name])).find(|text| !text.is_empty()).unwrap_or_default()
}

fn or_none(text: String) -> String {
    if text.is_empty() { "<none>".to_owned() } else { text }
}

/// The time since, in kubectl's words: two units while the number is small, one beyond.
fn since(at: &str, now: Timestamp) -> String {
    let Ok(at) = at.parse::<Timestamp>() else { return "<unknown>".to_owned() };
    let seconds = now.duration_since(at).as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let pair = |large: i64, unit: char, small: i64, other: char| match small {
        0 => format!("{large}{unit}"),
        small => format!("{large}{unit}{small}{other}"),
    };
    match seconds {
        i64::MIN..0 => "<invalid>".to_owned(),
        0..120 => format!("{seconds}s"),
        120..600 => pair(minutes, 'm', seconds % 60, 's'),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => pair(hours, 'h', minutes % 60, 'm'),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => pair(days, 'd', hours % 24, 'h'),
        _ => format!("{days}d"),
    }
}
