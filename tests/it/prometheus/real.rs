//! A real Prometheus as a process, with samples written to it.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use sluice::sim::promql::{Dialect, Labels};

use super::SEED;

/// A series with its samples in time order.
pub(crate) struct Seeded {
    pub(crate) labels: Labels,
    pub(crate) samples: Vec<(i64, f64)>,
}

/// Remote write: protobuf in a snappy block that consists of literals only.
fn remote_write_body(all: &[Seeded]) -> Vec<u8> {
    fn varint(mut n: u64, out: &mut Vec<u8>) {
        while n > 127 {
            out.push((n & 127) as u8 | 128);
            n >>= 7;
        }
        out.push(n as u8);
    }
    fn field(number: u64, bytes: &[u8], out: &mut Vec<u8>) {
        varint(number << 3 | 2, out);
        varint(bytes.len() as u64, out);
        out.extend_from_slice(bytes);
    }
    let mut message = Vec::new();
    for series in all {
        let mut body = Vec::new();
        for (name, value) in series.labels.iter() {
            let mut pair = Vec::new();
            field(1, name.as_bytes(), &mut pair);
            field(2, value.as_bytes(), &mut pair);
            field(1, &pair, &mut body);
        }
        for (at, value) in &series.samples {
            let mut sample = vec![0x09];
            sample.extend_from_slice(&value.to_le_bytes());
            sample.push(0x10);
            varint(*at as u64, &mut sample);
            field(2, &sample, &mut body);
        }
        field(1, &body, &mut message);
    }
    let mut block = Vec::new();
    varint(message.len() as u64, &mut block);
    for chunk in message.chunks(60) {
        block.push(((chunk.len() - 1) << 2) as u8);
        block.extend_from_slice(chunk);
    }
    block
}

pub(crate) struct Prometheus {
    process: Child,
    pub(crate) url: String,
    client: reqwest::Client,
    data: tempfile::TempDir,
    binary: String,
}

/// The variables that name a real Prometheus: one of version 2, one of version 3.
pub(crate) const SERVERS: [&str; 2] = ["PROMETHEUS", "PROMETHEUS_35"];

/// The program of a server; the first one may be on the PATH.
fn binary(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| match variable {
        "PROMETHEUS" => "prometheus".to_owned(),
        other => format!("{other} is not set"),
    })
}

/// A process on `port` whose files are in `folder`; none where no binary can be started.
fn spawn(binary: &str, folder: &Path, port: u16) -> Option<Child> {
    Command::new(binary)
        .arg(format!("--config.file={}", folder.join("prometheus.yml").display()))
        .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .args(["--web.enable-remote-write-receiver", "--log.level=warn"])
        .args(["--enable-feature=promql-at-modifier,promql-negative-offset"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .ok()
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Prometheus {
    /// Starts one on a free loopback port; none where no binary can be started.
    pub(crate) async fn start() -> Option<Self> {
        Self::with_rules("groups: []\n").await
    }

    /// The server that one of [`SERVERS`] names. Without it a test says SKIP, with `CI=true` it fails.
    pub(crate) async fn of(variable: &str) -> Option<Self> {
        let started = Self::begin(binary(variable), "groups: []\n").await;
        if started.is_none() {
            let reason = format!("no prometheus to start: set {variable} or run tests/tools");
            assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{reason}");
            println!("SKIP: {reason}");
        }
        started
    }

    /// The same as `start` with a rule file.
    pub(crate) async fn with_rules(rules: &str) -> Option<Self> {
        Self::begin(binary("PROMETHEUS"), rules).await
    }

    async fn begin(binary: String, rules: &str) -> Option<Self> {
        let data = tempfile::tempdir().unwrap();
        // The steps of subqueries follow the evaluation interval, whose default is a minute.
        let config = "global: {scrape_interval: 1m}\nrule_files: [rules.yml]\n";
        std::fs::write(data.path().join("prometheus.yml"), config).unwrap();
        std::fs::write(data.path().join("rules.yml"), rules).unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let process = spawn(&binary, data.path(), port)?;
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::new();
        let url = format!("http://127.0.0.1:{port}");
        let started = Self { process, url, client, data, binary };
        started.ready().await;
        Some(started)
    }

    async fn ready(&self) {
        for _ in 0..400 {
            let ready = self.client.get(format!("{}/-/ready", self.url)).send().await;
            if ready.is_ok_and(|answer| answer.status().is_success()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("Prometheus did not become ready on {}", self.url);
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        let _gone = self.process.kill();
        let _status = self.process.wait();
    }

    /// Starts it again where it was, with the data that it had.
    pub(crate) async fn again(&mut self) {
        let port = self.url.rsplit(':').next().unwrap().parse().unwrap();
        self.process = spawn(&self.binary, self.data.path(), port).unwrap();
        self.ready().await;
    }

    /// `STOP`: it takes connections and answers nothing; `CONT`: it goes on.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.process.id().to_string();
        let sent = Command::new("kill").arg(format!("-{name}")).arg(pid).status().unwrap();
        assert!(sent.success());
    }

    pub(crate) async fn write(&self, all: &[Seeded]) {
        let request = self.client.post(format!("{}/api/v1/write", self.url));
        let request = request
            .header("Content-Encoding", "snappy")
            .header("Content-Type", "application/x-protobuf")
            .header("X-Prometheus-Remote-Write-Version", "0.1.0");
        let answer = request.body(remote_write_body(all)).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 204, "{}", answer.text().await.unwrap());
    }

    pub(super) async fn ask(&self, path: &str, form: &[(String, String)]) -> (u16, Value) {
        let request = self.client.post(format!("{}{path}", self.url)).form(form);
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    pub(super) async fn dialect(&self) -> Dialect {
        let url = format!("{}/api/v1/status/buildinfo", self.url);
        let info: Value = self.client.get(url).send().await.unwrap().json().await.unwrap();
        let version = info["data"]["version"].as_str().unwrap();
        println!("against Prometheus {version}, seed {SEED}");
        if version.starts_with("2.") { Dialect::V2 } else { Dialect::V3 }
    }
}
