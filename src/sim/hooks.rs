//! Hooks that answer by script, in virtual time, and keep what they heard.
//!
//! A hook that nobody has scripted agrees. Of a script every call takes one answer; the last stays. One that
//! hangs is given up after its timeout.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use futures::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};

use crate::hooks::Caller;
use crate::rollout::{HookAnswer, HookCall};

/// An answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// It agrees.
    Ok,
    /// It refuses.
    Error,
    /// It asks to be asked again.
    Processing,
    /// It answers nothing until it is given up.
    Hang,
}

impl Word {
    /// Reads a word of a scenario.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "ok" => Self::Ok,
            "error" => Self::Error,
            "processing" => Self::Processing,
            "hang" => Self::Hang,
            _ => return None,
        })
    }
}

/// All hooks of a cluster.
#[derive(Debug, Default)]
pub struct Script {
    answers: Mutex<BTreeMap<String, VecDeque<Word>>>,
    heard: Mutex<Vec<HookCall>>,
    told: Mutex<usize>,
    time: Mutex<Timestamp>,
    /// When those that hang are given up.
    ends: Mutex<BTreeSet<Timestamp>>,
    cut: Mutex<Arc<AtomicBool>>,
}

impl Script {
    /// From now on the hook answers so.
    pub fn set(&self, name: &str, words: impl IntoIterator<Item = Word>) {
        lock(&self.answers).insert(name.to_owned(), words.into_iter().collect());
    }

    /// While this is true nothing that is sent arrives.
    pub fn cut_by(&self, cut: Arc<AtomicBool>) {
        *lock(&self.cut) = cut;
    }

    /// It is `now`.
    pub(super) fn pass(&self, now: Timestamp) {
        *lock(&self.time) = now;
        lock(&self.ends).retain(|end| *end > now);
    }

    /// When the next one that hangs is given up.
    pub(super) fn next_end(&self) -> Option<Timestamp> {
        lock(&self.ends).first().copied()
    }

    fn answer(&self, call: &HookCall) -> Word {
        let mut answers = lock(&self.answers);
        let words = answers.get_mut(&call.name);
        let word = words.and_then(|words| {
            if words.len() > 1 { words.pop_front() } else { words.front().copied() }
        });
        word.unwrap_or(Word::Ok)
    }

    async fn hang(&self, timeout: SignedDuration) {
        let end = lock(&self.time).saturating_add(timeout).unwrap_or(Timestamp::MAX);
        lock(&self.ends).insert(end);
        // Whoever lets time pass asks again.
        std::future::poll_fn(|_| match *lock(&self.time) >= end {
            true => Poll::Ready(()),
            false => Poll::Pending,
        })
        .await;
    }

    /// Every call that arrived.
    #[must_use]
    pub fn heard(&self) -> Vec<HookCall> {
        lock(&self.heard).clone()
    }

    /// What arrived since the last time, for a transcript.
    #[must_use]
    pub fn news(&self) -> Vec<String> {
        let heard = lock(&self.heard);
        let from = std::mem::replace(&mut *lock(&self.told), heard.len());
        let new = heard.iter().skip(from);
        new.map(|call| format!("{} {:?}, call {}", call.name, call.at, call.number)).collect()
    }
}

impl Caller for Script {
    fn call<'a>(
        &'a self,
        _client: &'a kube::Client,
        _namespace: &'a str,
        call: &'a HookCall,
        _now: Timestamp,
    ) -> BoxFuture<'a, HookAnswer> {
        Box::pin(async move {
            if lock(&self.cut).load(Ordering::Relaxed) {
                return HookAnswer::Error { message: "the caller is dead".into() };
            }
            lock(&self.heard).push(call.clone());
            match self.answer(call) {
                Word::Ok => HookAnswer::Ok { message: String::new() },
                Word::Error => HookAnswer::Error { message: "refused by script".into() },
                Word::Processing => HookAnswer::Processing { message: "at it".into(), again: None },
                Word::Hang => {
                    self.hang(call.timeout).await;
                    let message = format!("no answer within {:#}", call.timeout);
                    HookAnswer::Error { message }
                }
            }
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
