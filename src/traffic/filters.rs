//! Gateway API filters that we add: header changes and mirrors.

use serde_json::{Value, json};

use crate::api::rollout::{HeaderModifier, HeaderValue};

use super::refs::{list, set, unset};

const MODIFIER: &str = "requestHeaderModifier";

/// The filters with these header changes. The API allows one header filter, so ours is merged into
/// the user's; where both name a header, ours wins.
pub(super) fn with_headers(filters: &[Value], wanted: &HeaderModifier) -> Vec<Value> {
    let mut out = filters.to_vec();
    if wanted == &HeaderModifier::default() {
        return out;
    }
    match out.iter_mut().find_map(|f| f.get_mut(MODIFIER)) {
        Some(user) => merge(user, wanted),
        None => {
            let mut modifier = json!({});
            merge(&mut modifier, wanted);
            out.push(json!({"type": "RequestHeaderModifier", MODIFIER: modifier}));
        }
    }
    out
}

fn merge(user: &mut Value, wanted: &HeaderModifier) {
    let HeaderModifier { set: overwrite, add, remove } = wanted;
    let ours = |name: &str| {
        let values = overwrite.iter().chain(add).map(|h| h.name.as_str());
        values.chain(remove.iter().map(String::as_str)).any(|n| n.eq_ignore_ascii_case(name))
    };
    let value = |h: &HeaderValue| json!({"name": h.name, "value": h.value});
    let parts = [
        ("set", overwrite.iter().map(value).collect::<Vec<_>>()),
        ("add", add.iter().map(value).collect()),
        ("remove", remove.iter().map(|name| json!(name)).collect()),
    ];
    for (part, new) in parts {
        let name = |item: &Value| item.get("name").unwrap_or(item).as_str().map(str::to_owned);
        let kept = list(user.get(part)).iter();
        let mut items: Vec<Value> =
            kept.filter(|item| !name(item).is_some_and(|n| ours(&n))).cloned().collect();
        items.extend(new);
        match items.is_empty() {
            true => unset(user, part),
            false => set(user, part, Value::Array(items)),
        }
    }
}

/// A filter that copies this percentage of the requests to where the backendRef points.
pub(super) fn mirror(canary: &Value, percent: u8) -> Value {
    let mut target = json!({"group": "", "kind": "Service"});
    for part in ["group", "kind", "namespace", "name", "port"] {
        if let Some(value) = canary.get(part) {
            set(&mut target, part, value.clone());
        }
    }
    json!({
        "type": "RequestMirror",
        "requestMirror": {"backendRef": target, "percent": percent},
    })
}
