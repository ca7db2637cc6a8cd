//! What the server says that it serves: `/version`, `/api`, `/apis` and below.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    ApiStatus, Refusable,
    kinds::{Kind, Kinds},
};

/// `/version`.
#[must_use]
pub fn version() -> Value {
    json!({
        "major": "1", "minor": "36", "emulationMajor": "1", "emulationMinor": "36",
        "minCompatibilityMajor": "1", "minCompatibilityMinor": "35",
        "gitVersion": "v1.36.3", "gitCommit": "", "gitTreeState": "clean",
        "buildDate": "2026-01-01T00:00:00Z", "goVersion": "", "compiler": "rustc",
        "platform": "linux/amd64",
    })
}

/// `/api` for clients that know no aggregated discovery.
#[must_use]
pub fn core_versions() -> Value {
    json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []})
}

/// `/apis` for clients that know no aggregated discovery.
#[must_use]
pub fn groups(kinds: &Kinds) -> Value {
    let groups: Vec<Value> = by_group(kinds)
        .iter()
        .filter(|(group, _)| !group.is_empty())
        .map(|(group, versions)| group_value(group, versions))
        .collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

/// `/apis/GROUP`.
pub fn group(kinds: &Kinds, name: &str) -> Refusable<Value> {
    let groups = by_group(kinds);
    let versions = groups.get(name).ok_or_else(ApiStatus::no_such_resource)?;
    let mut value = group_value(name, versions);
    value["kind"] = json!("APIGroup");
    value["apiVersion"] = json!("v1");
    Ok(value)
}

/// `/api/v1` and `/apis/GROUP/VERSION`.
pub fn resources(kinds: &Kinds, group: &str, version: &str) -> Refusable<Value> {
    let of: Vec<&Kind> = kinds
        .iter()
        .map(AsRef::as_ref)
        .filter(|kind| kind.key.group == group && kind.key.version == version)
        .collect();
    let first = of.first().ok_or_else(ApiStatus::no_such_resource)?;
    let group_version = first.key.api_version();
    let mut resources = Vec::new();
    for kind in of {
        resources.push(json!({
            "name": kind.key.plural, "singularName": kind.singular, "kind": kind.kind,
            "namespaced": kind.namespaced, "verbs": verbs(kind), "shortNames": kind.short,
            "categories": kind.categories,
        }));
        for (name, response, verbs) in subresources(kind) {
            resources.push(json!({
                "name": format!("{}/{name}", kind.key.plural), "singularName": "",
                "kind": response["kind"], "group": response["group"],
                "version": response["version"],
                "namespaced": kind.namespaced, "verbs": verbs,
            }));
        }
    }
    Ok(json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version,
              "resources": resources}))
}

/// `/api` or `/apis` in the aggregated form: everything at once.
#[must_use]
pub fn aggregated(kinds: &Kinds, core: bool, version: &str) -> Value {
    let mut items = Vec::new();
    for (group, versions) in by_group(kinds) {
        if group.is_empty() != core {
            continue;
        }
        let versions: Vec<Value> = versions
            .iter()
            .map(|(version, kinds)| {
                let resources: Vec<Value> = kinds.iter().map(|kind| resource(kind)).collect();
                json!({"version": version, "freshness": "Current", "resources": resources})
            })
            .collect();
        items.push(json!({"metadata": {"name": group, "creationTimestamp": null},
                          "versions": versions}));
    }
    json!({"kind": "APIGroupDiscoveryList", "metadata": {}, "items": items,
           "apiVersion": format!("apidiscovery.k8s.io/{version}")})
}

fn resource(kind: &Kind) -> Value {
    let subresources: Vec<Value> = subresources(kind)
        .into_iter()
        .map(|(name, kind, verbs)| {
            json!({"subresource": name, "responseKind": kind, "verbs": verbs})
        })
        .collect();
    let mut value = json!({
        "resource": kind.key.plural, "singularResource": kind.singular,
        "responseKind": own(kind),
        "scope": if kind.namespaced { "Namespaced" } else { "Cluster" },
        "verbs": verbs(kind), "shortNames": kind.short, "categories": kind.categories,
    });
    if !subresources.is_empty() {
        value["subresources"] = json!(subresources);
    }
    value
}

fn verbs(kind: &Kind) -> Vec<&'static str> {
    if kind.answered {
        return vec!["create"];
    }
    vec!["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
}

fn own(kind: &Kind) -> Value {
    json!({"group": kind.key.group, "version": kind.key.version, "kind": kind.kind})
}

/// Name, response kind and verbs of each subresource.
fn subresources(kind: &Kind) -> Vec<(&'static str, Value, Vec<&'static str>)> {
    let mut all = Vec::new();
    if kind.is("", "pods") {
        let binding = json!({"group": "", "version": "v1", "kind": "Binding"});
        all.push(("binding", binding, vec!["create"]));
    }
    if kind.scale.is_some() {
        let scale = json!({"group": "autoscaling", "version": "v1", "kind": "Scale"});
        all.push(("scale", scale, vec!["get", "patch", "update"]));
    }
    if kind.status {
        all.push(("status", own(kind), vec!["get", "patch", "update"]));
    }
    all
}

type Versions<'a> = Vec<(String, Vec<&'a Kind>)>;

/// Groups, each with its versions, the preferred one first.
fn by_group(kinds: &Kinds) -> BTreeMap<String, Versions<'_>> {
    let mut groups: BTreeMap<String, BTreeMap<String, Vec<&Kind>>> = BTreeMap::new();
    for kind in kinds.iter() {
        let versions = groups.entry(kind.key.group.to_string()).or_default();
        versions.entry(kind.key.version.to_string()).or_default().push(kind);
    }
    let sorted = groups.into_iter().map(|(group, versions)| {
        let mut versions: Versions<'_> = versions.into_iter().collect();
        versions.sort_by_key(|(version, _)| std::cmp::Reverse(rank(version)));
        (group, versions)
    });
    sorted.collect()
}

/// Kubernetes' order of versions: stable before beta before alpha, then the higher number.
fn rank(version: &str) -> (u8, u32, u32) {
    let digits = |text: &str| -> u32 {
        let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().unwrap_or_default()
    };
    let rest = version.strip_prefix('v').unwrap_or(version);
    let major = digits(rest);
    let (stage, minor) = match (rest.split_once("beta"), rest.split_once("alpha")) {
        (Some((_, minor)), _) => (1, digits(minor)),
        (None, Some((_, minor))) => (0, digits(minor)),
        (None, None) => (2, 0),
    };
    (stage, major, minor)
}

fn group_value(group: &str, versions: &Versions<'_>) -> Value {
    let versions: Vec<Value> = versions
        .iter()
        .map(|(version, _)| {
            json!({"groupVersion": format!("{group}/{version}"),
                                   "version": version})
        })
        .collect();
    json!({"name": group, "versions": versions, "preferredVersion": versions.first()})
}
