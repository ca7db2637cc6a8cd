//! What can be typed after `sluice backtest`.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;

/// Shown below the options.
const EXAMPLES: &str = "\
Examples:
  The comparisons of a template against the last two weeks, with a report to pass on:
    sluice backtest -f template.yaml --prometheus http://localhost:9090 -o table -o html=a.html

  Limits written for Argo Rollouts; 'hash' names the new version, which has other names in history:
    sluice backtest -f argo.yaml --prometheus URL --arg service=web --canary-arg hash

  Flagger's Canary and MetricTemplates, with the primary's workload in place of the canary's:
    sluice backtest -f canary.yaml -f metrics.yaml --prometheus URL --arg target=web-primary

  Regressions of your own; in a pipeline, fail when the template rolls good releases back:
    sluice backtest -f template.yaml --prometheus URL --inject errors=1.5 --max-false 5%

Exit codes:
  0  done
  1  --max-false was passed, or the server stopped answering
  2  no window of the history could be used
  3  wrong input";

/// `sluice backtest`.
#[derive(Debug, Clone, Args)]
#[command(after_help = EXAMPLES)]
pub struct Backtest {
    /// AnalysisTemplates (ours or Argo's), Flagger's Canaries and MetricTemplates, and what they name
    /// (MetricProviders, Secrets): files or folders; `-` reads standard input.
    #[arg(short, long, required_unless_present_any = ["bad", "latency"])]
    pub filename: Vec<PathBuf>,
    /// Which template, where the files have several.
    #[arg(long)]
    pub template: Option<String>,
    /// Ask this server in place of those that the files name.
    #[arg(long, value_name = "URL", visible_alias = "provider-address")]
    pub prometheus: Option<String>,
    /// A value for an argument of the template; can be given again.
    #[arg(long = "arg", value_name = "NAME=VALUE")]
    pub args: Vec<String>,
    /// An argument that names the new version, such as a pod template hash: matchers with it are taken
    /// out, and the pods that play the canary are asked.
    #[arg(long, value_name = "NAME")]
    pub canary_arg: Vec<String>,
    /// The same for the stable version.
    #[arg(long, value_name = "NAME")]
    pub stable_arg: Vec<String>,
    /// The label of the series that carries the pod's name.
    #[arg(long, default_value = "pod", value_name = "LABEL")]
    pub pod_label: String,
    /// Days of history.
    #[arg(long, default_value_t = 14.0)]
    pub days: f64,
    /// Where the history ends: 2026-11-21T18:00:00Z, or 2d for that long ago. Default: now.
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// How long a release is analysed.
    #[arg(long, default_value = "60m", value_parser = humantime::parse_duration)]
    pub window: Duration,
    /// The share of the pods that play the canary.
    #[arg(long, default_value = "10%", value_parser = crate::cli::power::share)]
    pub canary: f64,
    /// Between two points; the scrape interval. Default: the shortest interval of a comparison, else 15s.
    #[arg(long, value_parser = humantime::parse_duration)]
    pub step: Option<Duration>,
    /// A regression: NAME=2 (so many times), NAME=+25%, or NAME=-50%. NAME is a metric, or `errors`,
    /// `latency` or `level` for all of a kind. Default: errors=2, errors=5, latency=+25%, level=+25%.
    #[arg(long, value_name = "NAME=CHANGE")]
    pub inject: Vec<String>,
    /// The chance that a good release is failed. Default: the template's risk, else 1%.
    #[arg(long, value_parser = crate::cli::power::share)]
    pub alpha: Option<f64>,
    /// A counter of bad requests, where the files compare none; with --total.
    #[arg(long, value_name = "SELECTOR", requires = "total")]
    pub bad: Option<String>,
    /// The counter of all requests for --bad.
    #[arg(long, value_name = "SELECTOR", requires = "bad")]
    pub total: Option<String>,
    /// Buckets of a histogram of latencies, where the files compare none.
    #[arg(long, value_name = "SELECTOR")]
    pub latency: Option<String>,
    /// A Kayenta canary config (JSON); its metrics are found by name. Default: Kayenta's defaults.
    #[arg(long, value_name = "FILE")]
    pub kayenta: Option<PathBuf>,
    /// Decides who plays the canary, and which requests turn bad.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Queries a second at most.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub rate: u32,
    /// Exit with 1 when the judges of the files roll back more good releases than this, beyond doubt: when
    /// the lower end of the interval is above it.
    #[arg(long, value_name = "SHARE", value_parser = crate::cli::power::share)]
    pub max_false: Option<f64>,
    /// What to write: table, json, json=FILE or html=FILE; can be given again. Default: table.
    #[arg(short, long, value_name = "FORMAT")]
    pub output: Vec<Wanted>,
    /// No progress.
    #[arg(short, long)]
    pub quiet: bool,
}

/// Something to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// The table, for people.
    Table,
    /// JSON, into a file or to standard output.
    Json(Option<PathBuf>),
    /// A page, into a file.
    Html(PathBuf),
}

impl FromStr for Wanted {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            None if text == "table" || text == "text" => Ok(Self::Table),
            None if text == "json" => Ok(Self::Json(None)),
            Some(("json", file)) if !file.is_empty() => Ok(Self::Json(Some(file.into()))),
            Some(("html", file)) if !file.is_empty() => Ok(Self::Html(file.into())),
            _ => Err("write table, json, json=FILE or html=FILE".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_to_write_is_read_and_anything_else_refused() {
        assert_eq!("html=a.html".parse(), Ok(Wanted::Html("a.html".into())));
        assert_eq!("json".parse(), Ok(Wanted::Json(None)));
        assert_eq!("json=b".parse(), Ok(Wanted::Json(Some("b".into()))));
        for wrong in ["html", "html=", "yaml", "table=x"] {
            assert!(wrong.parse::<Wanted>().unwrap_err().contains("html=FILE"), "{wrong}");
        }
    }
}
