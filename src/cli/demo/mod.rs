//! `sluice demo`: releases on a cluster in this process, watched live, decided from scraped series.
//!
//! Start reading at [`run`]; `cast` says who is bad, `play` never looks at it.

mod cast;
mod evidence;
mod manifests;
mod pace;
mod play;
mod report;
mod screen;

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context;
use jiff::SignedDuration;

use super::args::{self, Output};
use super::client::install_crypto;
use crate::sim::live::{Live, Options};

pub use cast::{Act, Cast, Nature, Style};
pub use pace::Pace;
pub use play::Stage;
pub use report::{Played, Report, Requests};
pub use screen::Screen;

/// The exit code of a process that was interrupted.
const INTERRUPTED: u8 = 130;

/// Plays, says what came of it, and with `--keep` waits for ctrl-c. Exit code 0: every decision was
/// right and no request was lost.
///
/// # Errors
/// The kubeconfig cannot be written, no loopback port, the apps do not come up.
pub async fn demo(args: args::Demo) -> anyhow::Result<u8> {
    let pace = if args.fast { Pace::FAST } else { Pace::USUAL };
    let cast = Cast::of(args.seed);
    // The folder ends with the demo; a path of the user's stays.
    let folder = tempfile::tempdir().context("no temporary folder: set TMPDIR to one")?;
    let path = match &args.kubeconfig_out {
        Some(path) => path.clone(),
        None => folder.path().join("kubeconfig"),
    };
    let live = start(&cast, &pace, args.seed).await?;
    write_kubeconfig(&path, &live.kubeconfig())?;
    let path = path.display();
    let is_text = args.output == Output::Text;
    let mut screen = Screen::Quiet;
    if is_text {
        super::say(&format!(
            "A cluster in this process, seed {}. Look into it from another terminal:\n  \
             kubectl --kubeconfig {path} get rollouts -w\n  \
             curl -H 'Host: shop.demo' http://{}/\n  \
             Prometheus API: http://{}\n",
            args.seed,
            live.gateway(),
            live.prometheus()
        ));
        screen = Screen::for_people(format!("sluice demo, seed {}", args.seed));
    }
    let playing = async {
        let mut stage = Stage::set(&live, &cast, pace, args.seed, &mut screen).await?;
        let report = Report { seed: args.seed, releases: stage.play(&mut screen).await? };
        Ok::<_, anyhow::Error>((stage, report))
    };
    let (mut stage, report) = tokio::select! {
        played = Box::pin(playing) => played?,
        _ = tokio::signal::ctrl_c() => return Ok(INTERRUPTED),
    };
    super::say(&match args.output {
        Output::Text => format!("\n{}", report.text()),
        Output::Json => serde_json::to_string_pretty(&report)?,
        Output::Yaml => serde_saphyr::to_string(&report)?,
    });
    if args.keep {
        stage.keep();
        if is_text {
            super::say(&format!(
                "\nThe cluster stays up; ctrl-c ends it.\n  export KUBECONFIG={path}"
            ));
        }
        tokio::signal::ctrl_c().await.context("waiting for ctrl-c")?;
    }
    Ok(u8::from(!report.is_good()))
}

/// Plays a cast without showing it.
///
/// # Errors
/// No loopback port, the apps do not come up.
pub async fn run(cast: &Cast, pace: Pace, seed: u64) -> anyhow::Result<Report> {
    let live = start(cast, &pace, seed).await?;
    let mut stage = Stage::set(&live, cast, pace, seed, &mut Screen::Quiet).await?;
    Ok(Report { seed, releases: stage.play(&mut Screen::Quiet).await? })
}

async fn start(cast: &Cast, pace: &Pace, seed: u64) -> anyhow::Result<Live> {
    install_crypto();
    let options = Options {
        seed,
        nodes: 3,
        kubelet: cast.kubelet(pace.ready_after),
        answers: cast.answers(),
        scrape_every: SignedDuration::from_secs(1),
    };
    Ok(Live::start(options).await?)
}

/// Writes the kubeconfig, readable by its owner only: a token is in it.
fn write_kubeconfig(path: &Path, text: &str) -> anyhow::Result<()> {
    let folder = match path.parent() {
        Some(parent) if parent != Path::new("") => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    let written = tempfile::NamedTempFile::new_in(&folder).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.persist(path).map_err(|e| e.error)?;
        Ok(())
    });
    written.with_context(|| {
        format!(
            "the kubeconfig cannot be written to {}: give --kubeconfig-out a file in a folder that \
             exists and that you may write",
            path.display()
        )
    })
}
