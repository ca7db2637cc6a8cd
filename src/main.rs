//! The binary: starts the runtime and hands over to `cli`. Called `kubectl-sluice` it is the same.

use std::process::ExitCode;

fn main() -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: no threads to run on: {error}");
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(sluice::cli::main(std::env::args_os().collect()));
    ExitCode::from(code)
}
