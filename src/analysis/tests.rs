//! Runs from start to verdict.
