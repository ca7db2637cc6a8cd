//! Stores to Snapshot.
