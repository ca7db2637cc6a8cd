use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::*;
use crate::api::crds;

fn recorded() -> Value {
    serde_json::from_str(include_str!("../../../tests/data/schema/recorded.json")).unwrap()
}

fn list<'v>(recorded: &'v Value, name: &str) -> &'v Vec<Value> {
    let list = recorded[name].as_array().unwrap();
    assert!(!list.is_empty(), "{name}");
    list
}

/// The schema of the kind of this object, among the recorded definitions.
fn schema_for<'v>(recorded: &'v Value, object: &Value) -> &'v Value {
    let kind = &object["kind"];
    let crds = list(recorded, "crds");
    of_version(crds.iter().find(|crd| crd["spec"]["names"]["kind"] == *kind).unwrap(), "v1")
        .unwrap()
}

/// Group and kind of a built-in object; `None` for a custom one.
fn built_in(object: &Value) -> Option<(String, String)> {
    let api = object["apiVersion"].as_str().unwrap();
    let group = api.rsplit_once('/').map_or("", |(group, _)| group);
    let custom = group == "test.dev" || group == "gateway.networking.k8s.io";
    (!custom).then(|| (group.to_owned(), object["kind"].as_str().unwrap().to_owned()))
}

/// What the server decides beyond defaults, and the namespace that the URL names.
fn without_what_is_generated(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.retain(|key, _| key == "name" || key == "labels");
    }
    object.as_object_mut().unwrap().remove("status");
    if let Some(spec) = object["spec"].as_object_mut() {
        for field in ["clusterIP", "clusterIPs"] {
            spec.remove(field);
        }
    }
    if object["kind"] == "Job" {
        object["spec"].as_object_mut().unwrap().remove("selector");
        object["spec"]["template"].as_object_mut().unwrap().remove("metadata");
        object["metadata"].as_object_mut().unwrap().remove("labels");
    }
    object
}

fn prepared(recorded: &Value, sent: &Value) -> Value {
    let mut object = sent.clone();
    match built_in(sent) {
        Some((group, kind)) => builtin::default(&group, &kind, &mut object),
        None => {
            let schema = schema_for(recorded, sent);
            prune(schema, &mut object);
            default(schema, &mut object);
        }
    }
    object
}

fn errors(
    recorded: &Value,
    new: &Value,
    old: Option<&Value>,
) -> BTreeSet<(String, String, String)> {
    let new = prepared(recorded, new);
    let found = match built_in(&new) {
        Some((group, kind)) => builtin::validate(&group, &kind, &new, old),
        None => validate(schema_for(recorded, &new), &new, old),
    };
    found
        .into_iter()
        .map(|error| (error.field.clone(), error.message(), error.fault.reason().to_owned()))
        .collect()
}

fn causes(case: &Value) -> BTreeSet<(String, String, String)> {
    let text = |cause: &Value, key: &str| cause[key].as_str().unwrap_or("").to_owned();
    let causes = case["causes"].as_array().into_iter().flatten();
    causes.map(|c| (text(c, "field"), text(c, "message"), text(c, "reason"))).collect()
}

#[test]
fn objects_come_back_pruned_and_defaulted_as_the_real_server_returned_them() {
    let recorded = recorded();
    for case in list(&recorded, "good").iter().chain(list(&recorded, "builtin")) {
        let came = without_what_is_generated(&case["came"]);
        let ours = without_what_is_generated(&prepared(&recorded, &case["sent"]));
        assert_eq!(ours, came, "{}", case["sent"]);
        assert_eq!(errors(&recorded, &case["sent"], None), BTreeSet::new(), "{}", case["sent"]);
    }
}

#[test]
fn invalid_objects_are_refused_with_the_real_servers_causes() {
    let recorded = recorded();
    let mut wrong = Vec::new();
    for case in list(&recorded, "bad").iter().chain(list(&recorded, "refused")) {
        let name = case["name"].as_str().unwrap();
        let (ours, theirs) = (errors(&recorded, &case["sent"], case.get("old")), causes(case));
        let same = match name {
            // Names and labels are the server's own business, whatever the schema.
            "label value" | "bad name" => continue,
            // The server repeats itself about values that are neither integer nor string.
            "int or string type" | "int or string float" => ours.intersection(&theirs).count() > 1,
            _ => ours == theirs,
        };
        if !same {
            wrong.push(format!("{name}: {ours:#?}, not {theirs:#?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn transition_rules_compare_with_the_old_object() {
    let recorded = recorded();
    for case in list(&recorded, "updates") {
        let ours = errors(&recorded, &case["sent"], Some(&case["old"]));
        assert_eq!(ours, causes(case), "{}", case["name"]);
    }
}

#[test]
fn unknown_fields_are_named_as_the_real_server_names_them() {
    let recorded = recorded();
    for case in list(&recorded, "strict") {
        let unknown = unknown_fields(schema_for(&recorded, &case["sent"]), &case["sent"]);
        let message = case["message"].as_str().unwrap();
        let list: Vec<String> = unknown.iter().map(|p| format!("unknown field \"{p}\"")).collect();
        assert!(
            message.ends_with(&format!("strict decoding error: {}", list.join(", "))),
            "{message}"
        );
    }
}

#[test]
fn what_an_update_leaves_alone_is_not_judged_again() {
    let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
        "name": {"type": "string", "minLength": 9},
        "list": {"type": "array", "items": {"type": "object", "properties": {"n": {
            "type": "integer", "x-kubernetes-validations": [{"rule": "self > 0"}]}}}},
        "other": {"type": "string"},
    }}}});
    let old = json!({"spec": {"name": "short", "list": [{"n": 0}]}});
    let new = json!({"spec": {"name": "short", "list": [{"n": 0}], "other": "x"}});
    assert_eq!(validate(&schema, &new, Some(&old)), vec![]);
    assert_eq!(validate(&schema, &new, None).len(), 2);
}

#[test]
fn every_rule_of_our_own_definitions_parses() {
    let mut seen = 0;
    for crd in crds::shipped() {
        let version = crd["spec"]["versions"][0]["name"].as_str().unwrap();
        rules_parse(of_version(crd, version).unwrap());
        seen += 1;
    }
    assert!(seen > 1);
}

fn rules_parse(schema: &Value) {
    if let Some(rules) = schema["x-kubernetes-validations"].as_array() {
        for rule in rules {
            let source = rule["rule"].as_str().unwrap();
            crate::sim::cel::parses(source).unwrap();
        }
    }
    match schema {
        Value::Object(map) => map.values().for_each(rules_parse),
        Value::Array(list) => list.iter().for_each(rules_parse),
        _ => {}
    }
}
