//! What analyses measure, as metrics, so that a user can plot it.
//!
//! Values and phases carry the run's name, so they go with the run: [`SHOWN`] scrapes after it is over, or
//! when it is deleted. Counters carry the namespace at most, so that their number stays bounded.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use prometheus::{GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry};

/// How many scrapes still show a run that is over: two servers that scrape at the same time see its last
/// values five times each.
const SHOWN: u32 = 10;

/// Seconds from the question to its answer, waiting for a place included.
const BUCKETS: [f64; 10] = [0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 30.0];

/// One run, as its metrics name it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RunName {
    /// Its namespace.
    pub namespace: String,
    /// Its Rollout; empty for a run that somebody made by hand.
    pub rollout: String,
    /// Its name.
    pub run: String,
}

/// One metric of a run as it is now.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// The metric.
    pub metric: String,
    /// Its phase, as in the status.
    pub phase: String,
    /// What was measured last, when it is one number.
    pub value: Option<f64>,
}

/// The handles.
pub struct AnalysisMetrics {
    values: GaugeVec,
    phases: GaugeVec,
    /// Measurements, by namespace and by their phase.
    pub measurements: IntCounterVec,
    /// Questions without an answer, by namespace and by kind of error.
    pub errors: IntCounterVec,
    /// Seconds to an answer, by provider.
    pub seconds: HistogramVec,
    shown: Mutex<BTreeMap<RunName, Shown>>,
}

/// What is shown of a run: phases by metric, and for how many scrapes more once it is over.
#[derive(Default)]
struct Shown {
    phases: BTreeMap<String, String>,
    left: Option<u32>,
}

impl AnalysisMetrics {
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let gauge = |name: &str, help: &str, labels: &[&str]| {
            let made = GaugeVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(made.clone()))?;
            Ok::<_, prometheus::Error>(made)
        };
        let counter = |name: &str, help: &str, labels: &[&str]| {
            let made = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(made.clone()))?;
            Ok::<_, prometheus::Error>(made)
        };
        let name = "sluice_analysis_query_seconds";
        let options = HistogramOpts::new(name, "Seconds to an answer").buckets(BUCKETS.to_vec());
        let seconds = HistogramVec::new(options, &["provider"])?;
        registry.register(Box::new(seconds.clone()))?;
        Ok(Self {
            values: gauge(
                "sluice_analysis_value",
                "What a metric of an analysis measured last",
                &["namespace", "rollout", "run", "metric"],
            )?,
            phases: gauge(
                "sluice_analysis_phase",
                "1 for the phase of a metric of an analysis",
                &["namespace", "rollout", "run", "metric", "phase"],
            )?,
            measurements: counter(
                "sluice_analysis_measurements_total",
                "Measurements of analyses",
                &["namespace", "phase"],
            )?,
            errors: counter(
                "sluice_analysis_errors_total",
                "Questions of analyses without an answer",
                &["namespace", "kind"],
            )?,
            seconds,
            shown: Mutex::default(),
        })
    }

    /// Shows a run as it is now; `over`: for the last time.
    pub fn show(&self, name: &RunName, readings: &[Reading], over: bool) {
        let mut all = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        // One that was over when it was first seen is history.
        if over && !all.contains_key(name) {
            return;
        }
        let shown = all.entry(name.clone()).or_default();
        for Reading { metric, phase, value } in readings {
            let labels = name.labels(metric);
            if let Some(value) = value {
                self.values.with_label_values(&labels).set(*value);
            }
            let old = shown.phases.insert(metric.clone(), phase.clone());
            if let Some(old) = old.filter(|old| old != phase) {
                self.drop_phase(name, metric, &old);
            }
            self.phases.with_label_values(&name.labels_with(metric, phase)).set(1.0);
        }
        shown.left = over.then_some(SHOWN);
    }

    /// Shows a run no more.
    pub fn forget(&self, namespace: &str, run: &str) {
        let mut all = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|name, shown| {
            let gone = name.namespace == namespace && name.run == run;
            if gone {
                self.drop_all(name, shown);
            }
            !gone
        });
    }

    /// Counts a scrape.
    pub(super) fn scraped(&self) {
        let mut all = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|name, shown| {
            let Some(left) = &mut shown.left else { return true };
            *left = left.saturating_sub(1);
            let stays = *left > 0;
            if !stays {
                self.drop_all(name, shown);
            }
            stays
        });
    }

    fn drop_all(&self, name: &RunName, shown: &Shown) {
        for (metric, phase) in &shown.phases {
            // A metric without a number has no value to drop.
            let _none = self.values.remove_label_values(&name.labels(metric));
            self.drop_phase(name, metric, phase);
        }
    }

    fn drop_phase(&self, name: &RunName, metric: &str, phase: &str) {
        let _none = self.phases.remove_label_values(&name.labels_with(metric, phase));
    }
}

impl RunName {
    fn labels<'a>(&'a self, metric: &'a str) -> [&'a str; 4] {
        [&self.namespace, &self.rollout, &self.run, metric]
    }

    fn labels_with<'a>(&'a self, metric: &'a str, phase: &'a str) -> [&'a str; 5] {
        [&self.namespace, &self.rollout, &self.run, metric, phase]
    }
}

#[cfg(test)]
mod tests {
    use super::super::Metrics;
    use super::*;

    fn name(run: &str) -> RunName {
        let (namespace, rollout) = ("shop".to_owned(), "web".to_owned());
        RunName { namespace, rollout, run: run.to_owned() }
    }

    fn reading(phase: &str, value: Option<f64>) -> Vec<Reading> {
        vec![Reading { metric: "errors".to_owned(), phase: phase.to_owned(), value }]
    }

    fn page(metrics: &Metrics) -> Vec<String> {
        let page = String::from_utf8(metrics.page()).unwrap();
        let lines = page.lines().filter(|line| line.starts_with("sluice_analysis_"));
        lines.map(str::to_owned).collect()
    }

    #[test]
    fn a_run_shows_its_values_and_one_phase_a_metric_until_it_is_over_and_was_scraped() {
        let metrics = Metrics::new().unwrap();
        metrics.analysis.show(&name("r1"), &reading("Pending", None), false);
        metrics.analysis.show(&name("r1"), &reading("Running", Some(0.07)), false);
        let labels = r#"metric="errors",namespace="shop","#;
        let tail = r#"rollout="web",run="r1"} "#;
        let value = |number: &str| format!("sluice_analysis_value{{{labels}{tail}{number}");
        let phase =
            |phase: &str| format!("sluice_analysis_phase{{{labels}phase=\"{phase}\",{tail}1");
        for _ in 0..2 * SHOWN {
            assert_eq!(page(&metrics), [phase("Running"), value("0.07")]);
        }
        metrics.analysis.show(&name("r1"), &reading("Failed", Some(0.2)), true);
        for _ in 0..SHOWN {
            assert_eq!(page(&metrics), [phase("Failed"), value("0.2")]);
        }
        assert_eq!(page(&metrics), Vec::<String>::new());
    }

    #[test]
    fn ten_thousand_runs_that_come_and_go_leave_nothing_behind() {
        let metrics = Metrics::new().unwrap();
        for i in 0..10_000 {
            let run = format!("r{i}");
            metrics.analysis.show(&name(&run), &reading("Running", Some(1.0)), false);
            match i % 3 {
                0 => metrics.analysis.forget("shop", &run),
                _ => metrics.analysis.show(&name(&run), &reading("Failed", Some(1.0)), true),
            }
        }
        metrics.analysis.show(&name("old"), &reading("Failed", Some(1.0)), true);
        for _ in 0..=SHOWN {
            let _scraped = metrics.page();
        }
        assert_eq!(page(&metrics), Vec::<String>::new());
        assert!(metrics.analysis.shown.lock().unwrap().is_empty());
    }
}
