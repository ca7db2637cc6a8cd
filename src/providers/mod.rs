//! Metric clients: one file each.
