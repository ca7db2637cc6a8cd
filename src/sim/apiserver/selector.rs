//! Label and field selectors.

use serde_json::Value;

use super::{
    ApiStatus, Call, Refusable,
    fields::{meta, text},
    kinds::Kind,
};

/// A parsed pair of selectors.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selector {
    labels: Vec<Requirement>,
    fields: Vec<(String, String, bool)>,
    /// Set for requests on one name: the namespace-and-name form of a watch.
    namespace: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Requirement {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    Missing(String),
}

impl Selector {
    /// The selectors of a call.
    pub fn of(kind: &Kind, call: &Call) -> Refusable<Self> {
        let labels = parse_labels(call.options.label_selector.as_deref().unwrap_or_default())?;
        let mut fields =
            parse_fields(kind, call.options.field_selector.as_deref().unwrap_or_default())?;
        if let Some(name) = &call.name {
            fields.push(("metadata.name".to_owned(), name.clone(), true));
        }
        Ok(Self { labels, fields, namespace: call.namespace.clone() })
    }

    /// True if the (stored) object is chosen.
    #[must_use]
    pub fn matches(&self, object: &Value) -> bool {
        self.namespace.as_deref().is_none_or(|wanted| meta(object, "namespace") == wanted)
            && self.labels.iter().all(|requirement| requirement.holds(object))
            && self
                .fields
                .iter()
                .all(|(path, wanted, equal)| (field(object, path) == *wanted) == *equal)
    }
}

impl Requirement {
    fn holds(&self, object: &Value) -> bool {
        let label = |key: &str| object["metadata"]["labels"][key].as_str();
        match self {
            Self::In(key, values) => label(key).is_some_and(|v| values.iter().any(|w| w == v)),
            Self::NotIn(key, values) => label(key).is_none_or(|v| values.iter().all(|w| w != v)),
            Self::Exists(key) => label(key).is_some(),
            Self::Missing(key) => label(key).is_none(),
        }
    }
}

/// Splits at commas that are not inside parentheses.
fn terms(selector: &str) -> Vec<&str> {
    let mut depth = 0_i32;
    let split = selector.split(move |c| {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        c == ',' && depth == 0
    });
    split.map(str::trim).filter(|term| !term.is_empty()).collect()
}

fn parse_labels(selector: &str) -> Refusable<Vec<Requirement>> {
    terms(selector).into_iter().map(parse_label).collect()
}

fn parse_label(term: &str) -> Refusable<Requirement> {
    let one = |value: &str| vec![value.trim().to_owned()];
    let key = |key: &str| key.trim().to_owned();
    if let Some((left, right)) = term.split_once("!=") {
        return Ok(Requirement::NotIn(key(left), one(right)));
    }
    if let Some((left, right)) = term.split_once("==").or_else(|| term.split_once('=')) {
        return Ok(Requirement::In(key(left), one(right)));
    }
    if let Some(name) = term.strip_prefix('!') {
        return Ok(Requirement::Missing(key(name)));
    }
    let unreadable = || {
        let message = format!("unable to parse requirement: cannot read \"{term}\"");
        ApiStatus::bad_request(message)
    };
    let Some((head, list)) = term.split_once('(') else {
        return match term.contains(char::is_whitespace) {
            true => Err(unreadable()),
            false => Ok(Requirement::Exists(key(term))),
        };
    };
    let list = list.strip_suffix(')').ok_or_else(unreadable)?;
    let values: Vec<String> = list.split(',').map(key).collect();
    let mut words = head.split_whitespace();
    match (words.next(), words.next(), words.next()) {
        (Some(name), Some("in"), None) => Ok(Requirement::In(name.to_owned(), values)),
        (Some(name), Some("notin"), None) => Ok(Requirement::NotIn(name.to_owned(), values)),
        _ => Err(unreadable()),
    }
}

fn parse_fields(kind: &Kind, selector: &str) -> Refusable<Vec<(String, String, bool)>> {
    let mut parsed = Vec::new();
    for term in selector.split(',').map(str::trim).filter(|term| !term.is_empty()) {
        let (path, value, equal) = term
            .split_once("!=")
            .map(|(path, value)| (path, value, false))
            .or_else(|| term.split_once("==").map(|(path, value)| (path, value, true)))
            .or_else(|| term.split_once('=').map(|(path, value)| (path, value, true)))
            .ok_or_else(|| {
                let message = format!("invalid selector: '{selector}'; can't understand '{term}'");
                ApiStatus::bad_request(message)
            })?;
        if !supported(kind, path) {
            let message = format!(
                "\"{path}\" is not a known field selector: only \"metadata.name\", \
                 \"metadata.namespace\""
            );
            return Err(ApiStatus::bad_request(message));
        }
        parsed.push((path.to_owned(), value.to_owned(), equal));
    }
    Ok(parsed)
}

/// Kubernetes supports few fields; asking for another is an error there, so it is one here.
fn supported(kind: &Kind, path: &str) -> bool {
    let of = |fields: &[&str]| fields.contains(&path);
    if of(&["metadata.name"]) || (kind.namespaced && of(&["metadata.namespace"])) {
        return true;
    }
    match (kind.key.group.as_ref(), kind.key.plural.as_ref()) {
        ("", "events") => {
            of(&["reason", "reportingComponent", "source", "type"])
                || path.strip_prefix("involvedObject.").is_some_and(|f| EVENT_OBJECT.contains(&f))
        }
        ("events.k8s.io", "events") => {
            of(&["reason", "reportingController", "type"])
                || path.strip_prefix("regarding.").is_some_and(|f| EVENT_OBJECT.contains(&f))
        }
        ("", "pods") => of(&[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ]),
        ("", "nodes") => of(&["spec.unschedulable"]),
        ("", "namespaces") => of(&["status.phase"]),
        ("", "secrets") => of(&["type"]),
        ("", "services") => of(&["spec.clusterIP", "spec.type"]),
        ("apps", "replicasets") => of(&["status.replicas"]),
        ("batch", "jobs") => of(&["status.successful"]),
        _ => kind.crd.as_ref().is_some_and(|crd| selectable(crd, &kind.key.version, path)),
    }
}

const EVENT_OBJECT: &[&str] =
    &["kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath"];

fn selectable(crd: &Value, version: &str, path: &str) -> bool {
    let versions = crd["spec"]["versions"].as_array();
    let version = versions.into_iter().flatten().find(|v| text(&v["name"]) == version);
    let fields = version.and_then(|v| v["selectableFields"].as_array());
    fields.into_iter().flatten().any(|f| text(&f["jsonPath"]).trim_start_matches('.') == path)
}

/// The field's value as selectors see it. Objects are in their stored version, so Events are read
/// under their core names.
fn field(object: &Value, path: &str) -> String {
    let path = match path.strip_prefix("regarding.") {
        Some(rest) => format!("involvedObject.{rest}"),
        None if path == "reportingController" => "reportingComponent".to_owned(),
        None => path.to_owned(),
    };
    if path == "source" && object["kind"] == "Event" {
        return text(&object["source"]["component"]).to_owned();
    }
    let value = path.split('.').fold(object, |value, name| &value[name]);
    match value {
        Value::String(text) => text.clone(),
        Value::Null if path.ends_with("replicas") || path.ends_with("successful") => "0".into(),
        Value::Null if path.ends_with("unschedulable") => "false".into(),
        Value::Null if path.ends_with("hostNetwork") => "false".into(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}
