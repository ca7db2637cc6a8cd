//! `sluice backtest`: every judge on the service's own past, before anybody trusts one.
//!
//! `input` says what is read and who judges, `reader` reads window by window, `replay` runs the judges on
//! each window as it was and with regressions in it, `report` says what came of it: as a table, as JSON,
//! or as a page to show to others. One window is in memory at a time, and the next ones on the way.

mod args;
mod asker;
mod flagger;
mod html;
mod input;
mod kayenta;
mod learn;
mod plot;
mod progress;
mod reader;
mod replay;
mod report;

use anyhow::Context;
use futures::{StreamExt, TryStreamExt, stream};
use tokio::time::Instant;

pub use args::{Backtest, Wanted};

use self::input::Input;
use self::progress::Progress;
use self::reader::Reader;
use self::replay::{Bench, compared};
use self::report::Report;
use super::analyze::WRONG_INPUT;
use super::{complain, say};
use crate::analysis::history::{Cut, starts};
use crate::clock::{Clock, SystemClock};
use crate::providers::Pool;

/// Windows that are read ahead.
const AHEAD: usize = 3;

/// What the exit code is when no window could be used.
const NOTHING: u8 = 2;

/// Reads, replays and reports; the exit codes are in the help.
///
/// # Errors
/// The server does not answer, or a file cannot be written.
pub(crate) async fn backtest(args: &Backtest) -> anyhow::Result<u8> {
    let input = match Input::read(args, SystemClock.now()) {
        Ok(input) => input,
        Err(error) => {
            complain(&format!("{error:#}"));
            return Ok(WRONG_INPUT);
        }
    };
    if let Err(error) = args.output.iter().try_for_each(writable) {
        complain(&format!("{error:#}"));
        return Ok(WRONG_INPUT);
    }
    super::install_crypto();
    let pool = Pool::new(input.catalog.clone()).context("making an HTTP client")?;
    let reader = Reader::new(&input, &pool, Instant::now());
    let (bench, untaught) = read(&input, &reader, args.quiet).await?;
    let report = Report::of(&input, &bench, untaught);
    write(&report, &args.output)?;
    if bench.used == 0 {
        complain(&format!("no window could be used: {}", report.left_out_in_words()));
        return Ok(NOTHING);
    }
    Ok(u8::from(args.max_false.is_some_and(|most| report.is_worse_than(most))))
}

/// Learns from the first half, then replays all windows, the oldest first; with why nothing was learnt.
async fn read<'a>(
    input: &'a Input,
    reader: &Reader<'a>,
    quiet: bool,
) -> anyhow::Result<(Bench<'a>, Option<String>)> {
    let span = &input.span;
    let cut = Cut::new(span.window, span.step, 1, input.seed);
    let mut windows = starts(span.until, span.history, &cut, usize::MAX);
    windows.reverse();
    let all = windows.len();
    let mut progress = Progress::new(quiet, Instant::now());
    let (mut taught, mut untaught) = (None, None);
    if let (Some(first), Some(middle), Some(_)) =
        (windows.first(), windows.get(all / 2), compared(input).next())
    {
        let learning = |done, all| progress.at("learning", done, all, Instant::now());
        match learn::learn(input, reader, *first, *middle, learning).await? {
            Ok(found) => taught = Some(found),
            Err(why) => untaught = Some(why),
        }
    }
    let mut bench = Bench::new(input, taught)?;
    progress.again(Instant::now());
    let reads = stream::iter(windows)
        .map(|from| async move { anyhow::Ok((from, reader.window(from).await?)) });
    let mut reads = std::pin::pin!(reads.buffered(AHEAD));
    let mut done = 0;
    while let Some((from, lines)) = reads.try_next().await? {
        bench.window(from, &lines, done < all / 2)?;
        done += 1;
        progress.at("replaying", done, all, Instant::now());
    }
    Ok((bench, untaught))
}

/// Whether a file can be written, which nobody wants to hear after an hour of replay.
fn writable(wanted: &Wanted) -> anyhow::Result<()> {
    let (Wanted::Json(Some(path)) | Wanted::Html(path)) = wanted else { return Ok(()) };
    let opened = std::fs::OpenOptions::new().create(true).append(true).open(path);
    opened.map(|_| ()).with_context(|| format!("writing {}", path.display()))
}

fn write(report: &Report, wanted: &[Wanted]) -> anyhow::Result<()> {
    let table = [Wanted::Table];
    for wanted in if wanted.is_empty() { &table } else { wanted } {
        let (path, text) = match wanted {
            // Shares of no window are none.
            Wanted::Table if report.windows.used == 0 => continue,
            Wanted::Table => {
                say(&report.to_table());
                continue;
            }
            Wanted::Json(None) => {
                say(&serde_json::to_string_pretty(report)?);
                continue;
            }
            Wanted::Json(Some(path)) => (path, serde_json::to_string_pretty(report)? + "\n"),
            Wanted::Html(path) => (path, html::page(report)),
        };
        std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}
