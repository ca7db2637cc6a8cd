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

/// A native histogram at one time.
pub(crate) struct NativeSeries {
    pub(crate) labels: Labels,
    /// Milliseconds.
    pub(crate) at: i64,
    pub(crate) schema: i64,
    pub(crate) sum: f64,
    /// Requests in the bucket of zero.
    pub(crate) zero: u64,
    /// Index and count, rising.
    pub(crate) buckets: Vec<(i64, u64)>,
}

/// The few forms of protobuf that remote write needs.
struct Message(Vec<u8>);

impl Message {
    fn new() -> Self {
        Self(Vec::new())
    }

    fn varint(&mut self, mut n: u64) -> &mut Self {
        while n > 127 {
            self.0.push((n & 127) as u8 | 128);
            n >>= 7;
        }
        self.0.push(n as u8);
        self
    }

    fn number(&mut self, field: u64, n: u64) -> &mut Self {
        self.varint(field << 3).varint(n)
    }

    /// `sint32` and `sint64`.
    fn signed(&mut self, field: u64, n: i64) -> &mut Self {
        self.number(field, zigzag(n))
    }

    fn double(&mut self, field: u64, n: f64) -> &mut Self {
        self.varint(field << 3 | 1).0.extend_from_slice(&n.to_le_bytes());
        self
    }

    fn bytes(&mut self, field: u64, bytes: &[u8]) -> &mut Self {
        self.varint(field << 3 | 2).varint(bytes.len() as u64).0.extend_from_slice(bytes);
        self
    }

    fn labels(&mut self, labels: &Labels) -> &mut Self {
        for (name, value) in labels.iter() {
            let mut pair = Self::new();
            pair.bytes(1, name.as_bytes()).bytes(2, value.as_bytes());
            self.bytes(1, &pair.0);
        }
        self
    }

    /// A snappy block that consists of literals only.
    fn block(&self) -> Vec<u8> {
        let mut block = Self::new();
        block.varint(self.0.len() as u64);
        for chunk in self.0.chunks(60) {
            block.0.push(((chunk.len() - 1) << 2) as u8);
            block.0.extend_from_slice(chunk);
        }
        block.0
    }
}

fn zigzag(n: i64) -> u64 {
    (n << 1 ^ n >> 63) as u64
}

/// Remote write of samples.
fn samples(all: &[Seeded]) -> Message {
    let mut message = Message::new();
    for series in all {
        let mut body = Message::new();
        body.labels(&series.labels);
        for (at, value) in &series.samples {
            let mut sample = Message::new();
            sample.double(1, *value).number(2, *at as u64);
            body.bytes(2, &sample.0);
        }
        message.bytes(1, &body.0);
    }
    message
}

/// Remote write of native histograms (`prompb.Histogram`): the buckets as spans of one, each count as its
/// difference to the one before.
fn histograms(all: &[NativeSeries]) -> Message {
    let mut message = Message::new();
    for series in all {
        let mut histogram = Message::new();
        let count: u64 = series.buckets.iter().map(|(_, count)| count).sum();
        histogram.number(1, series.zero + count).double(3, series.sum).signed(4, series.schema);
        histogram.double(5, 1e-128).number(6, series.zero);
        let (mut next, mut before) = (0, 0);
        let mut deltas = Message::new();
        for (index, count) in &series.buckets {
            let mut span = Message::new();
            span.signed(1, index - next).number(2, 1);
            histogram.bytes(11, &span.0);
            deltas.varint(zigzag(*count as i64 - before));
            (next, before) = (index + 1, *count as i64);
        }
        histogram.bytes(12, &deltas.0).number(15, series.at as u64);
        let mut body = Message::new();
        body.labels(&series.labels).bytes(4, &histogram.0);
        message.bytes(1, &body.0);
    }
    message
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
        .args(["--enable-feature=promql-at-modifier,promql-negative-offset,native-histograms"])
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
        self.put(samples(all)).await;
    }

    pub(crate) async fn write_native(&self, all: &[NativeSeries]) {
        self.put(histograms(all)).await;
    }

    async fn put(&self, message: Message) {
        let request = self.client.post(format!("{}/api/v1/write", self.url));
        let request = request
            .header("Content-Encoding", "snappy")
            .header("Content-Type", "application/x-protobuf")
            .header("X-Prometheus-Remote-Write-Version", "0.1.0");
        let answer = request.body(message.block()).send().await.unwrap();
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
