//! Actions to API calls: the only room that writes to a cluster.
