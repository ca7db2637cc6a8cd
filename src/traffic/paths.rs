//! Where two path matches meet.

use regex::Regex;

use crate::api::rollout::PathMatchType::{self, Exact, PathPrefix, RegularExpression};

/// A path match with its defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Path {
    pub(super) kind: PathMatchType,
    pub(super) value: String,
}

/// The paths that two matches have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Meet {
    /// This match describes them.
    At(Path),
    /// There are none.
    Never,
    /// It cannot be told.
    Unknown,
}

/// Where both hold.
pub(super) fn meet(a: &Path, b: &Path) -> Meet {
    if a == b {
        return Meet::At(a.clone());
    }
    let at = |path: &Path, holds: bool| if holds { Meet::At(path.clone()) } else { Meet::Never };
    match (a.kind, b.kind) {
        (Exact, Exact) => Meet::Never,
        (Exact, PathPrefix) => at(a, under(&a.value, &b.value)),
        (PathPrefix, PathPrefix) if under(&a.value, &b.value) => Meet::At(a.clone()),
        (PathPrefix, PathPrefix) => at(b, under(&b.value, &a.value)),
        (RegularExpression, PathPrefix) => regex_under(a, &b.value),
        (RegularExpression, Exact) => match Regex::new(&format!("^(?:{})$", a.value)) {
            Ok(regex) => at(b, regex.is_match(&b.value)),
            Err(_) => Meet::Unknown,
        },
        (RegularExpression, RegularExpression) => Meet::Unknown,
        (PathPrefix | Exact, RegularExpression) | (PathPrefix, Exact) => meet(b, a),
    }
}

/// True when the path is the prefix or below it, element by element: `/a/b` is under `/a`, `/ab`
/// not.
fn under(path: &str, prefix: &str) -> bool {
    let prefix = prefix.trim_end_matches('/');
    path.trim_end_matches('/') == prefix
        || path.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('/'))
}

/// A regular expression that begins with plain text says enough to compare it with a prefix.
fn regex_under(regex: &Path, prefix: &str) -> Meet {
    let head = plain_head(&regex.value);
    let below = format!("{}/", prefix.trim_end_matches('/'));
    if prefix == "/" || head.starts_with(&below) {
        Meet::At(regex.clone())
    } else if !head.starts_with(prefix.trim_end_matches('/')) && !prefix.starts_with(&head) {
        Meet::Never
    } else {
        Meet::Unknown
    }
}

/// The text that everything the expression matches begins with.
fn plain_head(regex: &str) -> String {
    let regex = regex.strip_prefix('^').unwrap_or(regex);
    let mut depth = 0_i32;
    let mut escaped = false;
    for c in regex.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '(' => depth += 1,
            ')' => depth -= 1,
            '|' if depth == 0 => return String::new(),
            _ => {}
        }
    }
    let end = regex.find(|c| r"\.+*?()|[]{}^$".contains(c)).unwrap_or(regex.len());
    let (head, rest) = regex.split_at(end);
    let mut head = head.to_owned();
    if rest.starts_with(['?', '*', '{']) {
        head.pop();
    }
    head
}
