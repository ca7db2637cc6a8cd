//! The loop around the planner: watches, queue, leases, events, shutdown.
