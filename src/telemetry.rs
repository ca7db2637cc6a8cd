//! Our own metrics: handles only.
