//! Pure: the release. `plan(&Snapshot, now) -> Plan`.
