//! The report as SARIF 2.1.0, which code hosts show next to the line.

use serde_json::{Value, json};

use super::{Finding, Linted, Report, Rule, Severity};

const SCHEMA: &str =
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json";

/// The whole log: one run with a result for each finding.
pub(super) fn log(report: &Report) -> Value {
    let rules =
        Rule::ALL.map(|rule| json!({"id": rule.id(), "shortDescription": {"text": rule.about()}}));
    let results = report
        .objects
        .iter()
        .flat_map(|object| object.findings.iter().map(move |finding| result(object, finding)));
    json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "sluice",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": rules,
            }},
            "columnKind": "unicodeCodePoints",
            "results": results.collect::<Vec<_>>(),
        }],
    })
}

fn result(object: &Linted, finding: &Finding) -> Value {
    let Finding { severity, rule, path, value: _, message: _, remedy: _, place } = finding;
    let level = match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    json!({
        "ruleId": rule.id(),
        "ruleIndex": Rule::ALL.iter().position(|known| known == rule),
        "level": level,
        "message": {"text": finding.sentence()},
        "locations": [{
            "physicalLocation": {
                "artifactLocation": {"uri": uri(&object.source)},
                "region": {"startLine": place.line, "startColumn": place.column},
            },
            "logicalLocations": [{
                "name": path,
                "fullyQualifiedName": format!("{}/{}/{path}", object.kind, object.name),
            }],
        }],
        "properties": {"document": object.document},
    })
}

/// A path as a URI; `stdin` for standard input.
fn uri(source: &str) -> String {
    if source == "-" {
        return "stdin".to_owned();
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    let mut out = if source.starts_with('/') { "file://".to_owned() } else { String::new() };
    for byte in source.bytes() {
        match plain(byte) {
            true => out.push(char::from(byte)),
            false => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}
