#!/usr/bin/env bash
# What the controller costs: the binary's size, the time from its start to its first reconcile, and its
# memory when nothing happens.
#
#   KUBECONFIG=... benches/footprint.sh [BINARY]
#
# The cluster must have Sluice's CRDs and at least one Rollout. `cargo bench --bench release` runs this
# at its end on its own control plane.
set -euo pipefail
binary=${1:-target/release/sluice}
listen=127.0.0.1:${PORT:-18086}
echo "binary: $(($(stat -c %s "$binary") / 1024)) KiB"

starts=5
for start in $(seq $starts); do
    began=$(date +%s%N)
    "$binary" controller --no-lease --listen "$listen" 2>/dev/null &
    pid=$!
    until curl -s "http://$listen/metrics" | grep -q '^sluice_reconciles_total{'; do
        kill -0 $pid || { echo "the controller ended"; exit 1; }
        sleep 0.005
    done
    echo "start to first reconcile: $((($(date +%s%N) - began) / 1000000)) ms"
    if [ "$start" = "$starts" ]; then sleep "${IDLE:-20}"; fi
    grep -E '^Vm(RSS|HWM)' "/proc/$pid/status"
    kill $pid
    wait $pid || true
done
