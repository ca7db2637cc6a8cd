//! Whether the routers have taken the route as it is now.

use serde_json::Value;

use super::refs::list;

/// What the parents say about this generation of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Acceptance {
    /// Every parent has accepted it and resolved its references.
    Accepted,
    /// The route names no parent: nobody serves it, and nobody will speak.
    Unserved,
    /// Somebody has not spoken yet.
    Pending {
        /// Who, and about what.
        why: String,
    },
    /// Somebody refuses it.
    Refused {
        /// The parent.
        parent: String,
        /// The condition and its reason, such as `ResolvedRefs: BackendNotFound`.
        reason: String,
        /// The router's own words.
        message: String,
    },
}

/// What every parent in `spec.parentRefs` says about this generation. A refusal counts before a
/// wait. An answer about an older generation is none.
#[must_use]
pub fn accepted(route: &Value) -> Acceptance {
    let generation = route.pointer("/metadata/generation").and_then(Value::as_i64).unwrap_or(0);
    if list(route.pointer("/spec/parentRefs")).is_empty() {
        return Acceptance::Unserved;
    }
    let answers = list(route.pointer("/status/parents"));
    let mut pending = None;
    for parent in list(route.pointer("/spec/parentRefs")) {
        let name = title(parent);
        let mut mine = answers
            .iter()
            .filter(|a| a.get("parentRef").is_some_and(|p| same_parent(parent, p, route)))
            .peekable();
        if mine.peek().is_none() {
            pending.get_or_insert(format!("{name} has not answered"));
        }
        for answer in mine {
            match judge(answer, generation, &name) {
                Acceptance::Accepted | Acceptance::Unserved => {}
                Acceptance::Pending { why } => {
                    pending.get_or_insert(why);
                }
                refused @ Acceptance::Refused { .. } => return refused,
            }
        }
    }
    pending.map_or(Acceptance::Accepted, |why| Acceptance::Pending { why })
}

fn judge(answer: &Value, generation: i64, parent: &str) -> Acceptance {
    let conditions = list(answer.get("conditions"));
    // The third is only there when rules were dropped or replaced by older ones.
    for (type_, good) in
        [("Accepted", "True"), ("ResolvedRefs", "True"), ("PartiallyInvalid", "False")]
    {
        let text = |c: &Value, field: &str| {
            c.get(field).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let pending = |what: &str| Acceptance::Pending { why: format!("{parent}: {type_} {what}") };
        let Some(condition) = conditions.iter().find(|c| text(c, "type") == type_) else {
            if good == "False" {
                continue;
            }
            return pending("is not reported yet");
        };
        let seen = condition.get("observedGeneration").and_then(Value::as_i64).unwrap_or(0);
        if seen < generation {
            return pending(&format!("is about generation {seen}, not yet {generation}"));
        }
        match text(condition, "status") {
            status if status == good => {}
            status if status == "Unknown" => return pending("is Unknown"),
            _ => {
                return Acceptance::Refused {
                    parent: parent.to_owned(),
                    reason: format!("{type_}: {}", text(condition, "reason")),
                    message: text(condition, "message"),
                };
            }
        }
    }
    Acceptance::Accepted
}

/// Compared with the API's defaults, because a controller may fill them in.
fn same_parent(a: &Value, b: &Value, route: &Value) -> bool {
    let home = route.pointer("/metadata/namespace").and_then(Value::as_str).unwrap_or("default");
    let part = |p: &Value, name: &str, or: &str| {
        p.get(name).and_then(Value::as_str).unwrap_or(or).to_owned()
    };
    [
        ("group", "gateway.networking.k8s.io"),
        ("kind", "Gateway"),
        ("namespace", home),
        ("name", ""),
        ("sectionName", ""),
    ]
    .iter()
    .all(|(name, or)| part(a, name, or) == part(b, name, or))
        && a.get("port") == b.get("port")
}

fn title(parent: &Value) -> String {
    let part = |name: &str| parent.get(name).and_then(Value::as_str);
    let kind = part("kind").unwrap_or("Gateway");
    let name = part("name").unwrap_or("(no name)");
    match part("sectionName") {
        Some(section) => format!("{kind} {name}/{section}"),
        None => format!("{kind} {name}"),
    }
}
