//! `sluice simulate`: manifests and a scenario in virtual time.

use std::collections::BTreeMap;

use anyhow::{Context, bail};
use serde_json::{Value, json};

use super::args::{Output, Simulate};
use crate::sim::scenario::{RunError, Scenario, run, title};

/// Plays it; the exit code is 1 when an expectation is not met.
///
/// # Errors
/// A file cannot be read, a manifest or a line of the scenario is refused.
pub async fn simulate(args: &Simulate) -> anyhow::Result<u8> {
    let path = &args.scenario;
    let text =
        std::fs::read_to_string(path).with_context(|| format!("--scenario {}", path.display()))?;
    let scenario = Scenario::parse(&text).with_context(|| path.display().to_string())?;
    let (mut manifests, mut files) = (Vec::new(), BTreeMap::new());
    for (shown, text) in super::files::read(&args.filename)? {
        let before = manifests.len();
        objects(&shown, &text, &mut manifests)?;
        let new = manifests.iter().skip(before);
        files.extend(new.map(|manifest| (title(manifest), shown.clone())));
    }
    if manifests.is_empty() {
        bail!(
            "no manifests in {}",
            args.filename.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", ")
        );
    }
    super::install_crypto();
    let seed = args.seed;
    // On one thread: on several, requests of the same instant would be answered in any order, and one seed
    // would give two transcripts.
    let played = tokio::task::spawn_blocking(move || {
        let one = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        one.block_on(run(&scenario, &manifests, seed)).map_err(|error| {
            let RunError::Refused { what, .. } = &error;
            match files.get(what) {
                Some(file) => anyhow::Error::from(error).context(file.clone()),
                None => error.into(),
            }
        })
    });
    let report = played.await??;
    let outcomes = &report.outcomes;
    let value = json!({
        "seed": args.seed,
        "timeline": report.transcript.lines,
        "requests": {
            "total": outcomes.total,
            "answered": outcomes.answered,
            "failed": outcomes.failed,
            "failedElsewhere": outcomes.failed_elsewhere,
        },
        "unmet": report.unmet,
        "violations": report.violations,
    });
    match args.output {
        Output::Json => super::say(&serde_json::to_string_pretty(&value)?),
        Output::Yaml => super::say(&serde_saphyr::to_string(&value)?),
        Output::Text => {
            super::say(report.transcript.to_string().trim_end());
            if outcomes.total > 0 {
                super::say(&format!(
                    "requests: {} in all, {} failed elsewhere; failed by version: {:?}",
                    outcomes.total, outcomes.failed_elsewhere, outcomes.failed
                ));
            }
            for line in report.unmet.iter().chain(&report.violations) {
                super::say(&format!("NOT MET  {line}"));
            }
        }
    }
    Ok(u8::from(!report.good()))
}

/// The objects in a file, all in the one namespace that a simulation has.
fn objects(shown: &str, text: &str, out: &mut Vec<Value>) -> anyhow::Result<()> {
    for part in text.split("\n---") {
        let mut object: Value = serde_saphyr::from_str(part).with_context(|| shown.to_owned())?;
        if object.is_null() {
            continue;
        }
        let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else {
            bail!("{shown}: an object without metadata");
        };
        metadata.insert("namespace".into(), json!("default"));
        out.push(object);
    }
    Ok(())
}
