//! A step's matches AND a rule's own matches.

use regex::escape;
use serde_json::{Value, json};

use crate::api::rollout::{HttpMatch, PathMatchType, ValueMatch, ValueMatchType};

use super::RouteError;
use super::paths::{Meet, Path, meet};
use super::refs::{list, set};

/// Several cookies of one match become one expression that lists every order of them.
const COOKIES: usize = 3;

/// The matches of a canary rule: each of the rule's own combined with each of the step's, without
/// those that can never hold.
pub(super) fn combined(
    rules: &[Value],
    index: usize,
    wanted: &[HttpMatch],
    grpc: bool,
) -> Result<Vec<Value>, RouteError> {
    let mut out = Vec::new();
    for (i, user) in own_matches(rules.get(index)).iter().enumerate() {
        for (j, step) in wanted.iter().enumerate() {
            let rule = format!("spec.rules[{index}].matches[{i}]");
            let at = At { grpc, rules, index, rule, step: j };
            if let Some(both) = combine(user, step, &at)?
                && !out.contains(&both)
            {
                out.push(both);
            }
        }
    }
    Ok(out)
}

/// A rule without matches has one that matches everything.
fn own_matches(rule: Option<&Value>) -> Vec<Value> {
    match list(rule.and_then(|r| r.get("matches"))) {
        [] => vec![json!({})],
        own => own.to_vec(),
    }
}

struct At<'a> {
    grpc: bool,
    rules: &'a [Value],
    index: usize,
    rule: String,
    step: usize,
}

impl At<'_> {
    fn step(&self) -> String {
        format!("matches[{}]", self.step)
    }

    fn uncombinable(&self, what: String, user: String, wanted: String) -> RouteError {
        RouteError::Uncombinable { path: self.rule.clone(), what, user, wanted }
    }
}

fn combine(user: &Value, step: &HttpMatch, at: &At) -> Result<Option<Value>, RouteError> {
    let HttpMatch { path, headers, query_params, cookies, method } = step;
    if step == &HttpMatch::default() {
        return Err(RouteError::EmptyMatch { path: at.step() });
    }
    let http_only = [
        ("path", path.is_some()),
        ("query parameters", !query_params.is_empty()),
        ("method", method.is_some()),
    ];
    if let Some((what, _)) = http_only.into_iter().find(|(_, given)| at.grpc && *given) {
        return Err(RouteError::NotForGrpc { path: at.step(), what });
    }
    let mut out = user.clone();
    if let Some(method) = method {
        match user.get("method") {
            Some(own) if own != method.as_str() => return Ok(None),
            _ => set(&mut out, "method", json!(method)),
        }
    }
    if path.is_some() {
        match combine_path(user, step, at)? {
            Some(both) => set(&mut out, "path", both),
            None => return Ok(None),
        }
    }
    let mut all_headers = headers.clone();
    all_headers.extend(cookie_header(cookies, at)?);
    let lists =
        [("headers", "header", &all_headers), ("queryParams", "query parameter", query_params)];
    for (field, what, wanted) in lists {
        if wanted.is_empty() {
            continue;
        }
        match combine_values(list(user.get(field)), wanted, what, at)? {
            Some(both) => set(&mut out, field, Value::Array(both)),
            None => return Ok(None),
        }
    }
    Ok(Some(out))
}

fn combine_path(user: &Value, step: &HttpMatch, at: &At) -> Result<Option<Value>, RouteError> {
    let own = own_path(user);
    let path = step.path.clone().unwrap_or_default();
    let wanted = Path {
        kind: path.type_.unwrap_or_default(),
        value: path.value.unwrap_or_else(|| "/".to_owned()),
    };
    match meet(&own, &wanted) {
        Meet::At(both) if belongs_to_another(&own, &both, at)? => Ok(None),
        Meet::At(both) => Ok(Some(json!({"type": both.kind, "value": both.value}))),
        Meet::Never => Ok(None),
        Meet::Unknown => {
            let describe = |p: &Path| format!("{:?} {}", p.kind, p.value);
            Err(at.uncombinable("the path".to_owned(), describe(&own), describe(&wanted)))
        }
    }
}

fn own_path(user: &Value) -> Path {
    let text = |pointer: &str| user.pointer(pointer).and_then(Value::as_str);
    Path {
        kind: match text("/path/type") {
            Some("Exact") => PathMatchType::Exact,
            Some("RegularExpression") => PathMatchType::RegularExpression,
            _ => PathMatchType::PathPrefix,
        },
        value: text("/path/value").unwrap_or("/").to_owned(),
    }
}

/// The longest path wins, so a path that a step narrows could take requests from another rule, whose
/// path lies between: with rules for `/` and `/api`, `/api/v2` is the second one's alone.
fn belongs_to_another(own: &Path, both: &Path, at: &At) -> Result<bool, RouteError> {
    for (i, rule) in at.rules.iter().enumerate().filter(|(i, _)| *i != at.index) {
        for rival in own_matches(Some(rule)) {
            let path = own_path(&rival);
            let between = path != *own
                && meet(own, &path) == Meet::At(path.clone())
                && meet(&path, both) == Meet::At(both.clone());
            if !between {
                continue;
            }
            let always =
                ["headers", "queryParams", "method"].iter().all(|f| rival.get(f).is_none());
            if always {
                return Ok(true);
            }
            if path != *both {
                return Err(RouteError::Overtakes {
                    path: at.rule.clone(),
                    wanted: both.value.clone(),
                    other: format!("spec.rules[{i}]"),
                });
            }
        }
    }
    Ok(false)
}

/// The list of both. The API looks at the first entry of a name only, so a name may be there once.
fn combine_values(
    own: &[Value],
    wanted: &[ValueMatch],
    what: &str,
    at: &At,
) -> Result<Option<Vec<Value>>, RouteError> {
    let same_name = |a: &str, b: &str| match what {
        "header" => a.eq_ignore_ascii_case(b),
        _ => a == b,
    };
    let text =
        |item: &Value, field: &str| item.get(field).and_then(Value::as_str).map(str::to_owned);
    let mut out = own.to_vec();
    for want in wanted {
        let kind = want.type_.unwrap_or_default();
        let there = out
            .iter()
            .find(|item| text(item, "name").is_some_and(|name| same_name(&name, &want.name)));
        let Some(there) = there else {
            out.push(json!({"type": kind, "name": want.name, "value": want.value}));
            continue;
        };
        let value = text(there, "value").unwrap_or_default();
        let exact = text(there, "type").is_none_or(|t| t == "Exact");
        let both_exact = exact && kind == ValueMatchType::Exact;
        if value == want.value && (both_exact || (!exact && kind != ValueMatchType::Exact)) {
            continue;
        }
        if both_exact {
            return Ok(None);
        }
        let what = format!("{what} {}", want.name);
        return Err(at.uncombinable(what, value, want.value.clone()));
    }
    Ok(Some(out))
}

/// The Cookie header that holds all of these cookies, in any order, among others.
fn cookie_header(cookies: &[ValueMatch], at: &At) -> Result<Option<ValueMatch>, RouteError> {
    if cookies.is_empty() {
        return Ok(None);
    }
    if cookies.len() > COOKIES {
        let (what, count) = ("cookies", cookies.len());
        return Err(RouteError::TooMany { path: at.step(), what, count, limit: COOKIES });
    }
    let pairs: Vec<String> = cookies.iter().map(cookie_pattern).collect();
    let orders: Vec<String> =
        orders(&pairs).iter().map(|order| order.join(r";\s*(.*;\s*)?")).collect();
    let body = match orders.as_slice() {
        [one] => one.clone(),
        several => format!("({})", several.join("|")),
    };
    Ok(Some(ValueMatch {
        type_: Some(ValueMatchType::RegularExpression),
        name: "Cookie".to_owned(),
        value: format!(r"^(.*;\s*)?{body}(;.*)?$"),
    }))
}

fn cookie_pattern(cookie: &ValueMatch) -> String {
    let value = match cookie.type_.unwrap_or_default() {
        ValueMatchType::Exact => escape(&cookie.value),
        ValueMatchType::RegularExpression => {
            // Anchors of the value's own can never hold in the middle of the header.
            let value = cookie.value.strip_prefix('^').unwrap_or(&cookie.value);
            let bare = value.strip_suffix('$').filter(|v| !v.ends_with('\\'));
            format!("({})", bare.unwrap_or(value))
        }
    };
    format!("{}={value}", escape(&cookie.name))
}

fn orders(items: &[String]) -> Vec<Vec<String>> {
    if items.is_empty() {
        return vec![Vec::new()];
    }
    let mut out = Vec::new();
    for (i, first) in items.iter().enumerate() {
        let rest: Vec<String> =
            items.iter().enumerate().filter(|(j, _)| *j != i).map(|(_, s)| s.clone()).collect();
        for mut order in orders(&rest) {
            order.insert(0, first.clone());
            out.push(order);
        }
    }
    out
}
