//! Every field of the API either works or is refused: nothing a user writes is silently passed
//! over.

mod sample;
mod works;

use std::collections::BTreeMap;
use std::path::Path;

use regex::Regex;
use sluice::api::{Rollout, crds};
use sluice::cli::lint::{Finding, Linter, Severity};
use sluice::spec::Plan;

use sample::{leaves, with_leaf};
use works::WORKS;

fn works(kind: &str, leaf: &str) -> bool {
    let group = kind.trim_start_matches("Cluster");
    let shared = matches!(group, "AnalysisTemplate" | "AnalysisRun");
    WORKS.iter().filter(|(of, _, _)| *of == group || (shared && *of == "Template")).any(
        |(_, path, _)| match path.strip_suffix('*') {
            Some(prefix) => leaf.starts_with(prefix),
            None => leaf == *path,
        },
    )
}

/// The findings at `leaf`, at what holds it, or at a part of it.
fn at<'a>(findings: &'a [Finding], leaf: &str) -> Vec<&'a Finding> {
    let index = Regex::new(r"\[\d+\]").unwrap();
    let leaf = leaf.trim_end_matches("{}");
    let touches = |path: &str| {
        let path = index.replace_all(path, "[]");
        let path = path.trim_end_matches("[]");
        let inside = |a: &str, b: &str| {
            a.strip_prefix(b).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        inside(leaf, path) || inside(path, leaf)
    };
    findings.iter().filter(|f| touches(&f.path)).collect()
}

#[test]
fn every_field_works_or_is_refused_with_a_reason() {
    let linter = Linter::default();
    let mut wrong = BTreeMap::new();
    let mut count = 0;
    for crd in crds::all() {
        let kind = crd.spec.names.kind.clone();
        // The Gate is written by the controller alone.
        if kind == "Gate" {
            continue;
        }
        let schema = crd.spec.versions[0].schema.clone().unwrap().open_api_v3_schema.unwrap();
        let mut paths = Vec::new();
        leaves(&schema.properties.as_ref().unwrap()["spec"], "spec", &mut paths);
        count += paths.len();
        for leaf in paths {
            let object = with_leaf(&kind, &schema, &leaf);
            let findings = linter.lint(&object).unwrap();
            let refused = at(&findings, &leaf).iter().any(|f| {
                let text = format!("{} {}", f.message, f.remedy.as_deref().unwrap_or_default());
                f.severity == Severity::Error && text.contains("not supported yet")
            });
            if refused && kind == "Rollout" {
                // The same errors become the condition InvalidSpec.
                let rollout: Rollout = serde_json::from_value(object.clone()).unwrap();
                let errors = Plan::parse(&rollout.spec).err().unwrap_or_default();
                let said = errors.iter().any(|e| e.to_string().contains("not supported yet"));
                assert!(said, "{leaf} is refused by lint alone: {errors:?}");
            }
            if works(&kind, &leaf) == refused {
                let should =
                    if refused { "is refused but listed as working" } else { "is ignored" };
                wrong.insert(format!("{kind} {leaf}"), format!("{should}: {object} {findings:#?}"));
            }
        }
    }
    assert!(count > 500, "the walk found {count} fields");
    let listed: Vec<_> = wrong.keys().collect();
    assert!(wrong.is_empty(), "{listed:#?}\n{:#?}", wrong.values().next());
}

/// The text of a scenario with its manifests, or of a test; why it cannot be read.
fn evidence(named: &str) -> Result<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read =
        |path: &Path| std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()));
    let Some((file, test)) = named.split_once("::") else {
        let folder = root.join("tests/scenarios");
        let world = named.split('_').next().unwrap_or_default();
        let story = read(&folder.join(format!("{named}.scenario")))?;
        return Ok(story + &read(&folder.join(format!("{world}.yaml")))?);
    };
    let text = read(&root.join(file))?;
    let test = Regex::new(&format!(r"#\[(tokio::)?test[^\]]*\]\n\s*(async )?fn {test}\(")).unwrap();
    if test.is_match(&text) { Ok(text) } else { Err(format!("{file} has no test {named}")) }
}

#[test]
fn what_shows_that_a_field_works_exists_and_speaks_of_it() {
    // Shown by the only value there is or by a verb, or built as a Rust value that is named otherwise.
    let unnamed = [
        "rollback.steps",
        "strategy.paused",
        "spec.disabled",
        "limits.*",
        "terminate",
        "clusterScope",
        "authentication*",
        "rangeQuery.*",
        "valueFrom.fieldRef.*",
    ];
    let mut bad = Vec::new();
    for (kind, path, named) in WORKS {
        let text = match evidence(named) {
            Ok(text) => text.to_lowercase().replace('_', ""),
            Err(text) => {
                bad.push(format!("{kind} {path}: {text}"));
                continue;
            }
        };
        let last = path.trim_end_matches(['*', '.']).rsplit('.').next().unwrap_or_default();
        let word = last.trim_end_matches("[]").to_lowercase();
        if !text.contains(&word) && !unnamed.iter().any(|end| path.ends_with(end)) {
            bad.push(format!("{kind} {path}: {named} says nothing of {word}"));
        }
    }
    assert!(bad.is_empty(), "{bad:#?}");
}

#[test]
fn what_is_listed_as_working_exists() {
    let mut all = Vec::new();
    for crd in crds::all() {
        let schema = crd.spec.versions[0].schema.clone().unwrap().open_api_v3_schema.unwrap();
        let mut paths = Vec::new();
        leaves(&schema.properties.as_ref().unwrap()["spec"], "spec", &mut paths);
        all.extend(paths);
    }
    for (_, path, _) in WORKS {
        let found = match path.strip_suffix('*') {
            Some(prefix) => all.iter().any(|leaf| leaf.starts_with(prefix)),
            None => all.iter().any(|leaf| leaf == path),
        };
        assert!(found, "{path} is no field");
    }
}
