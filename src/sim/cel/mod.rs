//! Part of the in-memory cluster.
