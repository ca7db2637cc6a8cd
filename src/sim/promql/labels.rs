//! A label set: sorted, without empty values, cheap to clone.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// The label that carries the metric's name.
pub(super) const NAME: &str = "__name__";

/// The labels of one series, the metric name included as `__name__`.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Labels(Arc<BTreeMap<String, String>>);

impl Labels {
    /// The labels of metric `name` with `pairs`; an empty name or value means "not there".
    pub fn new<K, V>(name: &str, pairs: impl IntoIterator<Item = (K, V)>) -> Self
    where
        K: Into<String>,
        V: Into<String>,
    {
        let mut labels: Self = pairs.into_iter().map(|(k, v)| (k.into(), v.into())).collect();
        labels.set(NAME, name);
        labels
    }

    /// The value of `label`; the empty string where it is not set, as in Prometheus.
    #[must_use]
    pub fn get(&self, label: &str) -> &str {
        self.0.get(label).map_or("", String::as_str)
    }

    /// The metric's name; empty after an operation that drops it.
    #[must_use]
    pub fn name(&self) -> &str {
        self.get(NAME)
    }

    /// Sets a label; an empty value removes it.
    pub fn set(&mut self, label: &str, value: &str) {
        if self.get(label) == value {
            return;
        }
        let map = Arc::make_mut(&mut self.0);
        if value.is_empty() {
            map.remove(label);
        } else {
            map.insert(label.to_owned(), value.to_owned());
        }
    }

    /// All pairs in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(k, v)| (k.as_str(), v.as_str()))
    }

    /// Whether no label is set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn without_name(&self) -> Self {
        let mut labels = self.clone();
        labels.set(NAME, "");
        labels
    }

    /// Only `names` (`by`, `on`).
    pub(super) fn only(&self, names: &[String]) -> Self {
        self.retain(|label| names.iter().any(|n| n == label))
    }

    /// All but `names` and the metric's name (`without`, `ignoring`).
    pub(super) fn except(&self, names: &[String]) -> Self {
        self.retain(|label| label != NAME && !names.iter().any(|n| n == label))
    }

    pub(super) fn retain(&self, keep: impl Fn(&str) -> bool) -> Self {
        if self.0.keys().all(|label| keep(label)) {
            return self.clone();
        }
        self.iter()
            .filter(|(label, _)| keep(label))
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .collect()
    }
}

impl FromIterator<(String, String)> for Labels {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(pairs: I) -> Self {
        Self(Arc::new(pairs.into_iter().filter(|(_, v)| !v.is_empty()).collect()))
    }
}

impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pairs: Vec<String> =
            self.iter().filter(|(k, _)| *k != NAME).map(|(k, v)| format!("{k}={v:?}")).collect();
        write!(f, "{}{{{}}}", self.name(), pairs.join(", "))
    }
}
