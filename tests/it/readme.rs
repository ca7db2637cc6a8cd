//! The README and the pages of docs/: what they show works as it stands there.

use std::path::Path;

use clap::Parser;
use sluice::cli::Cli;
use sluice::cli::lint::{Linter, Outcome, Report};
use sluice::sim::scenario::{Scenario, run};

fn page(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

/// The blocks of a page that are marked with a language.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let fence = format!("```{language}\n");
    let parts = text.split(&fence).skip(1);
    parts.map(|part| part.split("```").next().unwrap_or_default().to_owned()).collect()
}

#[test]
fn the_manifests_of_the_readme_have_nothing_wrong() {
    let linter = Linter::default();
    let manifests = blocks(&page("README.md"), "yaml");
    assert!(!manifests.is_empty());
    for text in manifests {
        let mut report = Report::default();
        report.add(&linter, "README.md", &text);
        assert_eq!(report.outcome(), Outcome::Clean, "{}", report.to_text());
        assert!(report.objects.iter().any(|object| object.kind == "Rollout"));
    }
}

#[test]
fn the_manifests_of_windows_and_hooks_have_nothing_wrong() {
    let linter = Linter::default();
    for name in ["docs/windows.md", "docs/hooks.md"] {
        let manifests = blocks(&page(name), "yaml");
        assert!(!manifests.is_empty(), "{name}");
        for text in manifests {
            let mut report = Report::default();
            report.add(&linter, name, &text);
            assert_eq!(report.outcome(), Outcome::Clean, "{}", report.to_text());
        }
    }
}

#[tokio::test]
async fn the_scenario_of_the_page_on_simulate_comes_true() {
    let page = page("docs/simulate.md");
    let (manifests, scenarios) = (blocks(&page, "yaml"), blocks(&page, "text"));
    assert_eq!((manifests.len(), scenarios.len()), (1, 1));
    let parts = manifests[0].split("\n---");
    let objects: Vec<_> = parts.map(|part| serde_saphyr::from_str(part).unwrap()).collect();
    let scenario = Scenario::parse(&scenarios[0]).unwrap();
    let report = run(&scenario, &objects, 1).await.unwrap();
    assert!(report.good(), "{:?} {:?}\n{}", report.unmet, report.violations, report.transcript);
}

#[test]
fn the_commands_of_the_pages_can_be_typed() {
    let mut typed = 0;
    let pages = ["README.md", "docs/backtest.md", "docs/simulate.md"];
    for block in pages.iter().flat_map(|name| blocks(&page(name), "sh")) {
        for line in block.lines() {
            let line = line.split(" #").next().unwrap_or_default().trim();
            let line = line.replace("cargo run --release -- ", "sluice ");
            let Some(rest) =
                ["kubectl sluice ", "sluice "].iter().find_map(|p| line.strip_prefix(p))
            else {
                continue;
            };
            let words = rest.split(' ').map(|word| word.trim_matches('\''));
            let parsed = Cli::try_parse_from(std::iter::once("sluice").chain(words));
            assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
            typed += 1;
        }
    }
    assert!(typed >= 3, "{typed} commands were found");
}

#[test]
fn every_link_of_a_page_leads_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let docs = std::fs::read_dir(root.join("docs")).unwrap();
    let mut pages: Vec<_> = docs.map(|entry| entry.unwrap().path()).collect();
    pages.extend([root.join("README.md"), root.join("CHANGELOG.md")]);
    for path in pages {
        let text = std::fs::read_to_string(&path).unwrap();
        for part in text.split("](").skip(1) {
            let target = part.split(')').next().unwrap_or_default();
            let file = target.split('#').next().unwrap_or_default();
            if file.is_empty() || file.contains("://") {
                continue;
            }
            let found = path.parent().unwrap().join(file);
            assert!(found.exists(), "{}: {target} leads nowhere", path.display());
        }
    }
}
