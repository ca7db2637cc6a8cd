//! `sluice demo` decides from scraped series alone: what is bad is found, whatever its name.

use std::process::Command;

use serde_json::Value;
use sluice::cli::demo::{Cast, Pace, run};

/// Name and what matters of each release, `(decision, expected, to a bad version, lost)`.
fn played(report: &Value) -> Vec<(String, String, String, u64, u64)> {
    let text = |v: &Value| v.as_str().unwrap().to_owned();
    let releases = report["releases"].as_array().unwrap().iter();
    releases
        .map(|r| {
            let requests = &r["requests"];
            assert!(requests["total"].as_u64().unwrap() > 0, "{r}");
            (
                text(&r["name"]),
                text(&r["decision"]),
                text(&r["expected"]),
                requests["toBad"].as_u64().unwrap(),
                requests["failedElsewhere"].as_u64().unwrap(),
            )
        })
        .collect()
}

fn check(report: &Value) -> Vec<String> {
    println!("{report:#}");
    let played = played(report);
    assert_eq!(played.len(), 6);
    for (name, decision, expected, to_bad, lost) in &played {
        assert_eq!(decision, expected, "{name}");
        assert_eq!(*lost, 0, "{name}: requests were lost on the way");
        assert!(expected == "RolledBack" || *to_bad == 0, "{name}");
    }
    played.into_iter().map(|(_, decision, ..)| decision).collect()
}

/// What the binary prints: one JSON document, whatever else it does.
fn seed(seed: u64) -> Vec<String> {
    let binary = env!("CARGO_BIN_EXE_sluice");
    let number = seed.to_string();
    let output =
        Command::new(binary).args(["demo", "--fast", "-o", "json", "--seed", &number]).output();
    let output = output.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let report: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
    assert_eq!(report["seed"], seed);
    let decisions = check(&report);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    decisions
}

/// One test, one run after the other: six apps at once are enough for a machine.
#[test]
fn decisions_follow_behaviours_and_not_names() {
    let (up, back) = ("Promoted", "RolledBack");
    assert_eq!(seed(1), [up, back, back, back, up, up]);
    let dealt: Vec<&str> = Cast::of(2).acts.iter().map(|a| a.nature.expected()).collect();
    assert_ne!(dealt, [up, back, back, back, up, up], "the seed deals differently");
    assert_eq!(seed(2), dealt);

    // The same names and tags as in seed 1; shop and cart, login and mail have changed natures.
    let cast = Cast::of(1).swapped(0, 1).swapped(3, 5);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let report = runtime.block_on(run(&cast, Pace::FAST, 1)).unwrap();
    let decisions = check(&serde_json::to_value(&report).unwrap());
    assert_eq!(decisions, [back, up, back, up, up, back]);
    assert!(report.is_good());
}

#[test]
fn a_kubeconfig_that_cannot_be_written_is_a_sentence_that_says_what_to_do() {
    let output = Command::new(env!("CARGO_BIN_EXE_sluice"))
        .args(["demo", "--kubeconfig-out", "/nowhere/at/all/kubeconfig"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("/nowhere/at/all/kubeconfig"), "{said}");
    assert!(said.contains("--kubeconfig-out a file in a folder that exists"), "{said}");
}
