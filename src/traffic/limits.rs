//! The Gateway API's limits on a route, checked before it is written.
//!
//! Bundles before 1.1 allow 8 matches in a rule; there the API server refuses the write.

use serde_json::Value;

use super::RouteError;
use super::refs::{backends, filters, list, rules};

/// Refuses a route that is larger than the Gateway API allows.
pub(super) fn check(route: &Value) -> Result<(), RouteError> {
    let rules = rules(route);
    at_most("spec.rules", "rules", rules.len(), 16)?;
    let matches = |rule: &Value| list(rule.get("matches")).len();
    at_most("spec.rules", "matches in all rules", rules.iter().map(matches).sum(), 128)?;
    for (i, rule) in rules.iter().enumerate() {
        let path = format!("spec.rules[{i}]");
        at_most(&path, "matches", matches(rule), 64)?;
        at_most(&path, "filters", filters(rule).len(), 16)?;
        at_most(&path, "backendRefs", backends(rule).len(), 16)?;
        for (j, one) in list(rule.get("matches")).iter().enumerate() {
            let path = format!("{path}.matches[{j}]");
            at_most(&path, "headers", list(one.get("headers")).len(), 16)?;
            at_most(&path, "queryParams", list(one.get("queryParams")).len(), 16)?;
        }
        header_changes(&path, filters(rule))?;
        for (j, backend) in backends(rule).iter().enumerate() {
            header_changes(&format!("{path}.backendRefs[{j}]"), filters(backend))?;
        }
    }
    Ok(())
}

fn header_changes(path: &str, filters: &[Value]) -> Result<(), RouteError> {
    for modifier in filters.iter().filter_map(|f| f.get("requestHeaderModifier")) {
        for part in ["set", "add", "remove"] {
            at_most(path, "header changes of a kind", list(modifier.get(part)).len(), 16)?;
        }
    }
    Ok(())
}

fn at_most(path: &str, what: &'static str, count: usize, limit: usize) -> Result<(), RouteError> {
    if count <= limit {
        return Ok(());
    }
    Err(RouteError::TooMany { path: path.to_owned(), what, count, limit })
}
