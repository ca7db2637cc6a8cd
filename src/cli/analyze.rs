//! `sluice analyze`: a template asked once, by hand, of real metric servers and without a cluster.
//!
//! It judges with the functions that the controller uses: [`analysis::plan_with`] says what is asked,
//! [`analysis::record_all_with`] judges the answers, [`analysis::verdict`] is what a release would read.
//! Each metric is measured once, whatever its interval, count and limits; nothing is written
//! anywhere. Read `input` for what is asked, `report` for what is said.

pub(super) mod input;
mod report;

use std::io::IsTerminal;

use anyhow::Context;
use jiff::Timestamp;

use self::input::Input;
use self::report::Explained;
use super::args::{Analyze, Output};
use super::{complain, say};
use crate::analysis::{self, Verdict};
use crate::clock::{Clock, SystemClock};
use crate::providers::{MetricSource, Pool, run_due};

/// What the exit code is when nothing could be asked.
pub(super) const WRONG_INPUT: u8 = 3;

/// Asks and explains; the exit code is 0 for a pass, 1 for a failure, 2 when it cannot be told, 3
/// when the input is wrong.
///
/// # Errors
/// The answer cannot be printed.
pub(crate) async fn analyze(args: &Analyze) -> anyhow::Result<u8> {
    let now = SystemClock.now();
    let input = match Input::read(args, now) {
        Ok(input) => input,
        Err(error) => {
            complain(&format!("{error:#}"));
            return Ok(WRONG_INPUT);
        }
    };
    super::install_crypto();
    let pool = Pool::new(input.catalog.clone()).context("making an HTTP client")?;
    let explained = ask(&input, &pool).await;
    say(&match args.output {
        Output::Text => explained.to_text(colourful()),
        Output::Json => serde_json::to_string_pretty(&explained)?,
        Output::Yaml => serde_saphyr::to_string(&explained)?.trim_end().to_owned(),
    });
    Ok(explained.exit_code())
}

/// Whether a person looks at it and does not mind.
fn colourful() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
}

/// Measures every metric once and judges it.
async fn ask(input: &Input, source: &dyn MetricSource) -> Explained {
    let mut run = input.run.clone();
    let at: Timestamp = input.at;
    let due = analysis::plan_with(&run, &input.secrets, at).due;
    let answers = run_due(source, due.clone()).await;
    let status = analysis::record_all_with(
        &run,
        &input.secrets,
        &analysis::Observed::default(),
        answers.clone(),
        at,
    );
    run.status = Some(status);
    let verdict: Verdict = analysis::verdict(&run);
    Explained::of(input, &run, &due, &answers, &verdict)
}
