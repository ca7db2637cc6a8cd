//! Our own metrics: handles only. Nothing that decides uses them.

mod analysis;

use prometheus::{
    Encoder, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};

pub use analysis::{AnalysisMetrics, Reading, RunName};

/// Seconds from a hook's call to its answer: most hooks answer at once, some run tests meanwhile.
const CALL_BUCKETS: [f64; 9] = [0.01, 0.05, 0.25, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// The handles.
pub struct Metrics {
    registry: Registry,
    /// 1 while the Lease is ours.
    pub leading: IntGauge,
    /// 1 when every first list is complete.
    pub synced: IntGauge,
    /// Reconciles that panicked.
    pub panics: IntCounter,
    /// Reconciles, by kind of object and by result.
    pub reconciles: IntCounterVec,
    /// 1 for each release that a person must act on; none for the others.
    pub stalled: IntGaugeVec,
    /// Events written, by namespace and reason.
    pub events: IntCounterVec,
    /// Broken invariants, by name.
    pub violations: IntCounterVec,
    /// How often a Prometheus was asked for firing alerts, by result.
    pub alert_polls: IntCounterVec,
    /// Writes that were carried out, by action.
    pub writes: IntCounterVec,
    /// Calls of hooks, by namespace, moment and answer.
    pub hook_calls: IntCounterVec,
    /// Seconds to a hook's answer, by moment.
    pub hook_seconds: HistogramVec,
    /// What analyses measure.
    pub analysis: AnalysisMetrics,
}

impl Metrics {
    /// Handles of a registry of their own.
    ///
    /// # Errors
    /// Two metrics of one name: a defect.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let vec = |name: &str, help: &str, labels: &[&str]| {
            let made = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(made.clone()))?;
            Ok::<_, prometheus::Error>(made)
        };
        let gauge = |name: &str, help: &str| {
            let made = IntGauge::new(name, help)?;
            registry.register(Box::new(made.clone()))?;
            Ok::<_, prometheus::Error>(made)
        };
        let panics = IntCounter::new("sluice_reconcile_panics_total", "Reconciles that panicked")?;
        registry.register(Box::new(panics.clone()))?;
        let name = "sluice_hook_call_seconds";
        let options = HistogramOpts::new(name, "Seconds to a hook's answer");
        let hook_seconds = HistogramVec::new(options.buckets(CALL_BUCKETS.to_vec()), &["at"])?;
        registry.register(Box::new(hook_seconds.clone()))?;
        let stalled = IntGaugeVec::new(
            Opts::new("sluice_rollout_stalled", "1 where a release waits for a person"),
            &["namespace", "rollout"],
        )?;
        registry.register(Box::new(stalled.clone()))?;
        Ok(Self {
            stalled,
            leading: gauge("sluice_leading", "1 while this process holds the Lease")?,
            synced: gauge("sluice_synced", "1 when every first list is complete")?,
            reconciles: vec("sluice_reconciles_total", "Reconciles", &["kind", "result"])?,
            events: vec(
                "sluice_events_total",
                "Events of releases and analyses",
                &["namespace", "reason"],
            )?,
            violations: vec("sluice_invariant_violations_total", "Broken invariants", &["name"])?,
            alert_polls: vec("sluice_alert_polls_total", "Looks for firing alerts", &["result"])?,
            writes: vec("sluice_writes_total", "Writes to the API server", &["action"])?,
            hook_calls: vec(
                "sluice_hook_calls_total",
                "Calls of hooks",
                &["namespace", "at", "answer"],
            )?,
            hook_seconds,
            analysis: AnalysisMetrics::new(&registry)?,
            panics,
            registry,
        })
    }

    /// The page that Prometheus scrapes.
    #[must_use]
    pub fn page(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let families = self.registry.gather();
        self.analysis.scraped();
        match TextEncoder::new().encode(&families, &mut out) {
            Ok(()) => out,
            Err(error) => format!("# {error}\n").into_bytes(),
        }
    }
}
