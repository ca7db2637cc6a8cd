//! Pure: how each workload kind is gated, moved, rested, restored, and how its state reads.
