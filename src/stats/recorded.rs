//! Figures of other programs that the tests replay; what they are is said beside them.

use serde_json::Value;

/// Of scipy, statsmodels and savvi.
pub(crate) fn scipy() -> Value {
    serde_json::from_str(include_str!("../../tests/data/stats/golden_oracle_a.json")).unwrap()
}

/// Of confseq.
pub(crate) fn confseq() -> Value {
    serde_json::from_str(include_str!("../../tests/data/stats/golden_oracle_b.json")).unwrap()
}
