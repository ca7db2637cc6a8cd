//! Every scenario: a readable file, its manifests by the first word of its name, its recorded transcript.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::Value;
use sluice::sim::scenario::{Scenario, run};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios")
}

fn manifests(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.split("\n---").map(|part| serde_saphyr::from_str::<Value>(part).unwrap()).collect()
}

/// `UPDATE_SCENARIOS=1` records the transcripts anew; `SCENARIO=name` runs one.
#[tokio::test]
async fn every_scenario_ends_as_expected_and_as_recorded() {
    let only = std::env::var("SCENARIO").ok();
    let update = std::env::var_os("UPDATE_SCENARIOS").is_some();
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder())
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "scenario"))
        .collect();
    files.sort();
    let mut bad = String::new();
    let mut played = 0;
    for file in files {
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        if only.as_ref().is_some_and(|o| !name.contains(o.as_str())) {
            continue;
        }
        played += 1;
        let scenario = Scenario::parse(&std::fs::read_to_string(&file).unwrap()).unwrap();
        let world = format!("{}.yaml", name.split('_').next().unwrap());
        let report = run(&scenario, &manifests(&folder().join(world)), 1).await.unwrap();
        let text = report.transcript.to_string();
        let record = file.with_extension("out");
        if !report.good() {
            writeln!(bad, "== {name}\n{:#?}\n{:#?}\n{text}", report.unmet, report.violations)
                .unwrap();
        } else if update {
            std::fs::write(&record, &text).unwrap();
        } else if std::fs::read_to_string(&record).unwrap_or_default() != text {
            writeln!(bad, "== {name}: another transcript than recorded\n{text}").unwrap();
        }
    }
    println!("{played} scenarios played on sim");
    assert!(played > 0);
    assert!(bad.is_empty(), "{bad}");
}
