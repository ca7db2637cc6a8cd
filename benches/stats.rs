//! The kernels of the mathematics, as times and as ratios to scipy in the same run.
//!
//! `PYTHON=path` names the Python that has scipy; without one the ratios are skipped and said to be.
#![allow(clippy::disallowed_methods, clippy::expect_used, reason = "a bench measures real time")]

#[path = "aca/draw.rs"]
#[allow(dead_code, reason = "a bench of its own")]
mod draw;

use std::collections::BTreeMap;
use std::hint::black_box;
use std::process::Command;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use sluice::stats::histogram::{TiltProcess, Tilts};
use sluice::stats::lattice::{Hybrid, Segment};
use sluice::stats::mixture::Restarts;
use sluice::stats::rank::{Alternative, Method, Sample, hodges_lehmann, mann_whitney, shift};
use sluice::stats::rates::{RateProcess, Split};
use sluice::stats::zeroin::Tolerance;

use draw::Draw;

const ROUNDS: usize = 21;

fn main() {
    println!("| kernel | least | median | 95 % | cycles | peer | ratio |");
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    ticks();
    tilt();
    lattice();
    let peer = scipy();
    ranks(&peer);
    if peer.is_empty() {
        println!("SKIP the ratios: no Python with scipy (name one with PYTHON=path)");
    }
}

/// The time that this thread had a processor: on a shared machine the wall clock counts others' work. The
/// wall clock where the kernel does not tell.
fn now() -> Duration {
    static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let ran = told.and_then(|text| text.split(' ').next()?.parse().ok());
    ran.map_or_else(|| BEGAN.elapsed(), Duration::from_nanos)
}

/// Times `work`, done `times` times in each round, and prints a row.
fn row(name: &str, times: u32, peer: Option<f64>, mut work: impl FnMut()) {
    let mut spans: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let began = now();
            for _ in 0..times {
                work();
            }
            now().saturating_sub(began)
        })
        .collect();
    spans.sort_unstable();
    let at = |percent: usize| {
        let span = spans.get((ROUNDS - 1) * percent / 100).copied().unwrap_or_default();
        span.as_secs_f64() / f64::from(times)
    };
    let [least, median, high] = [0, 50, 95].map(|p| text(at(p)));
    let (peer, ratio) = peer.map_or_else(
        || ("".to_owned(), "".to_owned()),
        |peer| (text(peer), format!("{:.1}", peer / at(50))),
    );
    let cycles = at(50) / *CYCLE;
    println!("| {name} | {least} | {median} | {high} | {cycles:.0} | {peer} | {ratio} |");
}

/// A cycle of this processor as it runs now: a chain of rotations and exclusive ors, each of which waits
/// for the one before. It makes the table comparable between machines and hours.
static CYCLE: LazyLock<f64> = LazyLock::new(|| {
    const LINKS: u64 = 30_000_000;
    let began = now();
    let mut x = black_box(1u64);
    for i in 0..LINKS {
        x = x.rotate_left(1) ^ i;
    }
    black_box(x);
    now().saturating_sub(began).as_secs_f64() / (2 * LINKS) as f64
});

fn text(seconds: f64) -> String {
    match seconds {
        s if s < 1e-6 => format!("{:.1} ns", s * 1e9),
        s if s < 1e-3 => format!("{:.2} us", s * 1e6),
        s => format!("{:.2} ms", s * 1e3),
    }
}

/// What the logarithms of a tick cost one after the other.
fn yardstick() -> f64 {
    let numbers: [f64; 24] = std::array::from_fn(|k| 1.0 + 0.079 * k as f64);
    let began = now();
    const TIMES: u32 = 400_000;
    for _ in 0..TIMES {
        for x in &numbers {
            black_box(libm::log(*black_box(x)));
        }
    }
    now().saturating_sub(began).as_secs_f64() / f64::from(TIMES)
}

fn ticks() {
    let split = Split::new(0.1).expect("inside (0, 1)");
    let mut process = RateProcess::default();
    row("tick, the split as before", 2_000_000, None, || {
        process.observe(black_box(&split), black_box(3.0), black_box(31.0));
    });
    let mut exposure = 3_000.0;
    row("tick, another split; peer: its 24 logarithms by libm", 300_000, Some(yardstick()), || {
        exposure = if exposure > 3_100.0 { 3_000.0 } else { exposure + 1.0 };
        if let Some(split) = Split::of(black_box(exposure), 27_000.0, 1.0) {
            process.observe(&split, black_box(3.0), black_box(31.0));
        }
    });
    row("ln E", 200_000, None, || {
        black_box(black_box(&process).log_e());
    });
    let mut copies = RateProcess::new(Restarts { first: 0.5, later: 12, beyond: 0.0 });
    while copies.restart() {
        copies.observe(&split, 3.0, 31.0);
    }
    row("ln E of 13 copies", 10_000, None, || {
        black_box(black_box(&copies).log_e());
    });
}

fn tilt() {
    let bounds = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
    let history =
        [5.0, 26.0, 2_613.0, 19_044.0, 42_816.0, 32_631.0, 2_741.0, 127.0, 9., 3., 2., 1.];
    let tilts = Tilts::new(&bounds, &history).expect("rising bounds");
    let baseline = history.map(|count: f64| (count * 0.027).round());
    let canary = history.map(|count: f64| (count * 0.003).round());
    let mut process = TiltProcess::new(&tilts, Restarts::NONE);
    row("tilt tick, 12 buckets and 10 tilts", 50_000, None, || {
        process.observe(&tilts, black_box(&canary), black_box(&baseline));
    });
}

fn lattice() {
    for (events, times) in [(2_000, 10), (8_000, 2)] {
        for rho in [0.1, 0.5] {
            let plan = [Segment { events, rho }];
            row(&format!("exact boundary, {events} events, rho {rho}"), times, None, || {
                black_box(Hybrid::new(black_box(&plan), 0.01, true));
            });
        }
    }
}

fn ranks(peer: &BTreeMap<String, f64>) {
    let mut draw = Draw::new(20_250_601, 0);
    let rounds = [(60, 20_000), (1_000, 1_000), (10_000, 60), (100_000, 5), (1_000_000, 1)];
    for (n, times) in rounds {
        let mut sample = || -> Vec<f64> { (0..n).map(|_| draw.normal()).collect() };
        let (x, y) = (sample(), sample());
        let read = |values: &[f64]| Sample::new(values.to_vec()).expect("numbers");
        let name = format!("mann-whitney {n}");
        row(&format!("{name}; peer: scipy"), times, peer.get(&name).copied(), || {
            let (x, y) = (read(black_box(&x)), read(black_box(&y)));
            let method = Method::Asymptotic { continuity: true };
            black_box(mann_whitney(&x, &y, Alternative::TwoSided, method)).ok();
        });
        if n <= 100_000 {
            row(&format!("Kayenta's interval {n}"), times.div_ceil(10), None, || {
                let (x, y) = (read(black_box(&x)), read(black_box(&y)));
                black_box(shift(&x, &y, 2.326_347_874_040_841, Tolerance::Absolute(1e-4))).ok();
            });
            row(&format!("Hodges-Lehmann {n}"), times.div_ceil(10), None, || {
                let (x, y) = (read(black_box(&x)), read(black_box(&y)));
                black_box(hodges_lehmann(&x, &y));
            });
        }
    }
}

/// The seconds that scipy needs for each kernel, measured now; empty without it.
fn scipy() -> BTreeMap<String, f64> {
    const PROGRAM: &str = "
import json, time
import numpy as np
from scipy import stats
def median(work, rounds):
    spans = []
    for _ in range(rounds):
        began = time.thread_time(); work(); spans.append(time.thread_time() - began)
    return sorted(spans)[len(spans) // 2]
draw = np.random.default_rng(20250601)
found = {}
for n, rounds in ((60, 201), (1000, 101), (10000, 31), (100000, 9), (1000000, 3)):
    x, y = draw.normal(size=n), draw.normal(size=n)
    work = lambda: stats.mannwhitneyu(x, y, method='asymptotic')
    found[f'mann-whitney {n}'] = median(work, rounds)
print(json.dumps(found))
";
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let Ok(output) = Command::new(python).args(["-c", PROGRAM]).output() else {
        return BTreeMap::new();
    };
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}
