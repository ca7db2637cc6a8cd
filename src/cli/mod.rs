//! What a person types.

mod args;
mod client;
mod controller;
pub mod crds;
pub mod demo;
mod files;
mod install;
mod let_go;
pub mod lint;
mod manifests;
mod show;
mod simulate;
mod verbs;

use std::ffi::OsString;

use clap::{CommandFactory, Parser};

pub use args::{Cli, Command};
pub use client::install_crypto;

use crate::api::status::RequestVerb;

/// Parses and runs; the exit code is what the command says, 1 for an error.
pub async fn main(args: Vec<OsString>) -> u8 {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            let code = u8::try_from(error.exit_code()).unwrap_or(2);
            let _broken = error.print();
            return code;
        }
    };
    match dispatch(cli.command).await {
        Ok(code) => code,
        Err(error) => {
            complain(&format!("{error:#}"));
            1
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
            return show::status(&named, watch, timeout, output).await;
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
        Command::Jump { step, named } => verbs::jump(&named, step).await?,
        Command::Restart(named) => verbs::ask(&named, RequestVerb::Restart).await?,
        Command::LetGo(named) => verbs::let_go(&named).await?,
        Command::Plan { output, named } => show::plan(&named, output).await?,
        Command::Crds => crds::yaml(),
        Command::Lint { files, output } => return files::lint(&files, output),
        Command::Install(args) => install::install(&args).await?,
        Command::Uninstall { cluster, keep_crds, let_go_only } => {
            let extent = install::Extent { keep_crds, let_go_only };
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

/// Prints a line or more for the person or program that asked.
#[expect(clippy::print_stdout, reason = "the one place where answers are printed")]
pub(crate) fn say(text: &str) {
    println!("{text}");
}

/// Says what is wrong.
#[expect(clippy::print_stderr, reason = "the one place where complaints are printed")]
fn complain(text: &str) {
    eprintln!("error: {text}");
}
