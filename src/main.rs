//! The binary: starts the runtime and hands over to `cli`. Called `kubectl-sluice` it is the same.

use std::process::ExitCode;
use std::time::Duration;

/// Enough for a thousand releases at once, and no more memory on a node with 64 cores.
const THREADS: usize = 4;
/// What blocks when the work is done, as a name that is being resolved, does not hold up the end.
const LEFT: Duration = Duration::from_millis(100);

fn main() -> ExitCode {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS);
    let built =
        tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build();
    let runtime = match built {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: no threads to run on: {error}");
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(sluice::cli::main(std::env::args_os().collect()));
    runtime.shutdown_timeout(LEFT);
    ExitCode::from(code)
}
