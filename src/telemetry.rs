//! Our own metrics: handles only. Nothing that decides uses them.

use prometheus::{Encoder, IntCounter, IntCounterVec, IntGauge, Opts, Registry, TextEncoder};

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
    /// Events written, by reason.
    pub events: IntCounterVec,
    /// Broken invariants, by name.
    pub violations: IntCounterVec,
    /// Writes that were carried out, by action.
    pub writes: IntCounterVec,
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
        Ok(Self {
            leading: gauge("sluice_leading", "1 while this process holds the Lease")?,
            synced: gauge("sluice_synced", "1 when every first list is complete")?,
            reconciles: vec("sluice_reconciles_total", "Reconciles", &["kind", "result"])?,
            events: vec("sluice_events_total", "Events of releases", &["reason"])?,
            violations: vec("sluice_invariant_violations_total", "Broken invariants", &["name"])?,
            writes: vec("sluice_writes_total", "Writes to the API server", &["action"])?,
            panics,
            registry,
        })
    }

    /// The page that Prometheus scrapes.
    #[must_use]
    pub fn page(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let families = self.registry.gather();
        match TextEncoder::new().encode(&families, &mut out) {
            Ok(()) => out,
            Err(error) => format!("# {error}\n").into_bytes(),
        }
    }
}
