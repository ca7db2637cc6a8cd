//! Which requests a policy or a binding is about: resource rules and label selectors.
//!
//! `matchPolicy: Equivalent` is read as `Exact`: an object is not converted between versions.

use serde_json::Value;

use super::{admission::AdmissionRequest, eval::EvalError};

/// Configuration of the API server's admission itself, which no policy can lock.
const EXEMPT: [&str; 6] = [
    "validatingwebhookconfigurations",
    "mutatingwebhookconfigurations",
    "validatingadmissionpolicies",
    "validatingadmissionpolicybindings",
    "mutatingadmissionpolicies",
    "mutatingadmissionpolicybindings",
];

/// Whether no policy is ever asked about this request.
pub(crate) fn is_exempt(request: &AdmissionRequest) -> bool {
    request.group == "admissionregistration.k8s.io" && EXEMPT.contains(&request.resource.as_str())
}

/// Whether `matchConstraints` (or a binding's `matchResources`) include this request.
pub(crate) fn matches(
    constraints: &Value,
    request: &AdmissionRequest,
    objects: [Option<&Value>; 2],
    namespace: Option<&Value>,
) -> Result<bool, EvalError> {
    if !rules_match(constraints, request) {
        return Ok(false);
    }
    // A cluster-scoped object is in no namespace and passes; a Namespace is asked by its own
    // labels.
    let owner = if request.resource == "namespaces" && request.group.is_empty() {
        objects.into_iter().flatten().next()
    } else {
        namespace
    };
    if let (Some(selector), Some(owner)) = (constraints.get("namespaceSelector"), owner)
        && !selects(selector, owner)?
    {
        return Ok(false);
    }
    match constraints.get("objectSelector") {
        Some(selector) => {
            for object in objects.into_iter().flatten() {
                if selects(selector, object)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        None => Ok(true),
    }
}

/// Whether the resource rules include this request.
pub(crate) fn rules_match(constraints: &Value, request: &AdmissionRequest) -> bool {
    let rules = |key: &str| constraints.get(key).and_then(Value::as_array);
    let included = rules("resourceRules")
        .is_none_or(|list| list.is_empty() || list.iter().any(|rule| rule_matches(rule, request)));
    let excluded = rules("excludeResourceRules")
        .is_some_and(|list| list.iter().any(|rule| rule_matches(rule, request)));
    included && !excluded
}

fn rule_matches(rule: &Value, request: &AdmissionRequest) -> bool {
    let lists = |key: &str, wanted: &str| {
        rule.get(key)
            .and_then(Value::as_array)
            .is_some_and(|list| list.iter().any(|item| item == "*" || item == wanted))
    };
    let names = rule.get("resourceNames").and_then(Value::as_array);
    let scope = rule.get("scope").and_then(Value::as_str).unwrap_or("*");
    lists("apiGroups", &request.group)
        && lists("apiVersions", &request.version)
        && lists("operations", &request.operation)
        && names.is_none_or(|list| list.is_empty() || list.iter().any(|n| *n == request.name))
        && match scope {
            "Namespaced" => !request.namespace.is_empty(),
            "Cluster" => request.namespace.is_empty(),
            _ => true,
        }
        && rule.get("resources").and_then(Value::as_array).is_some_and(|list| {
            list.iter().filter_map(Value::as_str).any(|item| resource_matches(item, request))
        })
}

/// `deployments` is the object itself, `deployments/status` its subresource, `*` any object but no
/// subresource, `*/*` everything.
fn resource_matches(item: &str, request: &AdmissionRequest) -> bool {
    let (resource, subresource) = item.split_once('/').unwrap_or((item, ""));
    (resource == "*" || resource == request.resource)
        && (subresource == "*" || subresource == request.subresource)
}

/// Whether a label selector selects this object.
pub(crate) fn selects(selector: &Value, object: &Value) -> Result<bool, EvalError> {
    let label = |key: &str| object.get("metadata")?.get("labels")?.get(key)?.as_str();
    if let Some(labels) = selector.get("matchLabels").and_then(Value::as_object)
        && !labels.iter().all(|(key, value)| label(key) == value.as_str())
    {
        return Ok(false);
    }
    for expression in
        selector.get("matchExpressions").and_then(Value::as_array).into_iter().flatten()
    {
        let text = |key: &str| expression.get(key).and_then(Value::as_str).unwrap_or("");
        let found = label(text("key"));
        let among = found.is_some_and(|found| {
            expression
                .get("values")
                .and_then(Value::as_array)
                .is_some_and(|values| values.iter().any(|value| value == found))
        });
        let holds = match text("operator") {
            "In" => among,
            "NotIn" => !among,
            "Exists" => found.is_some(),
            "DoesNotExist" => found.is_none(),
            other => {
                return Err(EvalError::new(format!(
                    "{other:?} is not a valid label selector operator"
                )));
            }
        };
        if !holds {
            return Ok(false);
        }
    }
    Ok(true)
}
