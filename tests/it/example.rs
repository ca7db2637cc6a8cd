//! The servers of `examples/`, as processes.

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// An example server, until the test is over.
pub struct Example {
    _child: Child,
    /// Where it listens.
    pub address: String,
}

impl Example {
    /// Starts the example in this folder. `None` without Python.
    pub async fn start(folder: &str, environment: &[(&str, &str)]) -> Option<Self> {
        let path = format!("{}/examples/{folder}/server.py", env!("CARGO_MANIFEST_DIR"));
        let mut command = Command::new("python3");
        command.arg(path).envs(environment.iter().copied());
        command.stdout(Stdio::piped()).kill_on_drop(true);
        let Ok(mut child) = command.spawn() else {
            assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "there is no python3");
            println!("SKIP: there is no python3");
            return None;
        };
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = lines.next_line().await.unwrap().unwrap();
        Some(Self { _child: child, address })
    }
}
