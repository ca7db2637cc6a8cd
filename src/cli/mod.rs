//! What a person types.

mod analysis;
mod analyze;
mod args;
mod backtest;
mod client;
mod controller;
pub mod demo;
mod files;
mod install;
mod let_go;
pub mod lint;
mod manifests;
mod power;
mod show;
mod simulate;
mod status;
mod verbs;

use std::ffi::OsString;

use clap::{CommandFactory, Parser};

pub use args::{Cli, Command};
pub use client::install_crypto;

use crate::api::{crds, status::RequestVerb};

/// Where 1 to 3 say how a release or an analysis stands: it could not be asked.
const NOT_ASKED: u8 = 4;

/// Parses and runs; the exit code is what the command says, 1 for an error of most.
pub async fn main(args: Vec<OsString>) -> u8 {
    let verb = args.get(1).cloned();
    let is = |verbs: &[&str]| verbs.iter().any(|name| verb.as_ref().is_some_and(|v| v == name));
    let asks = is(&["status", "analysis"]);
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            let code = match u8::try_from(error.exit_code()).unwrap_or(2) {
                // There 2 means that the metrics cannot tell.
                2 if is(&["analyze", "backtest"]) => analyze::WRONG_INPUT,
                2 if asks => NOT_ASKED,
                code => code,
            };
            let _broken = error.print();
            return code;
        }
    };
    match Box::pin(dispatch(cli.command)).await {
        Ok(code) => code,
        Err(error) => {
            let remedy = client::remedy(&error).map(|r| format!("; {r}")).unwrap_or_default();
            complain(&format!("{error:#}{remedy}"));
            if asks { NOT_ASKED } else { 1 }
        }
    }
}

async fn dispatch(command: Command) -> anyhow::Result<u8> {
    let text = match command {
        Command::Demo(args) => return demo::demo(args).await,
        Command::Controller(args) => return controller::controller(args).await,
        Command::Simulate(args) => return simulate::simulate(&args).await,
        Command::Get { name, all_namespaces, output, cluster } => {
            show::get(&cluster, name.as_deref(), all_namespaces, output).await?
        }
        Command::Status { watch, timeout, output, named } => {
            return Box::pin(status::status(&named, watch, timeout, output)).await;
        }
        Command::Approve(named) => verbs::ask(&named, RequestVerb::Approve).await?,
        Command::Promote { full, named } => {
            let verb = if full { RequestVerb::PromoteFull } else { RequestVerb::Approve };
            verbs::ask(&named, verb).await?
        }
        Command::Pause(named) => verbs::pause(&named, true).await?,
        Command::Resume(named) => verbs::pause(&named, false).await?,
        Command::Abort(named) => verbs::ask(&named, RequestVerb::Abort).await?,
        Command::Retry(named) => verbs::ask(&named, RequestVerb::Retry).await?,
        Command::Skip(named) => verbs::ask(&named, RequestVerb::Skip).await?,
        Command::Undo { to_revision, named } => verbs::undo(&named, to_revision).await?,
        Command::Jump { step, named } => Box::pin(verbs::jump(&named, step)).await?,
        Command::Restart(named) => verbs::ask(&named, RequestVerb::Restart).await?,
        Command::LetGo(named) => verbs::let_go(&named).await?,
        Command::Plan { output, named } => show::plan(&named, output).await?,
        Command::Crds => crds::shipped_yaml(),
        Command::Lint { files, filename, output } => {
            return files::lint(&[files, filename].concat(), output);
        }
        Command::Analysis(args) => return Box::pin(analysis::analysis(&args)).await,
        Command::Analyze(args) => return analyze::analyze(&args).await,
        Command::Backtest(args) => return backtest::backtest(&args).await,
        Command::Power(args) => power::power(&args)?,
        Command::Install(args) => install::install(&args).await?,
        Command::Uninstall { cluster, keep_crds, let_go_only, dry_run } => {
            let extent = install::Extent { keep_crds, let_go_only, dry_run };
            return install::uninstall(&cluster, extent).await;
        }
        Command::Completion { shell } => {
            let mut out = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "sluice", &mut out);
            String::from_utf8(out)?
        }
    };
    say(&text);
    Ok(0)
}

/// Prints a line or more for the person or program that asked. Who has closed the pipe wants no more.
pub(crate) fn say(text: &str) {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    if let Err(error) = writeln!(out, "{text}").and_then(|()| out.flush())
        && error.kind() != std::io::ErrorKind::BrokenPipe
    {
        complain(&format!("standard output cannot be written: {error}"));
        std::process::exit(1);
    }
}

/// Says what is wrong.
#[expect(clippy::print_stderr, reason = "the one place where complaints are printed")]
fn complain(text: &str) {
    eprintln!("error: {text}");
}
