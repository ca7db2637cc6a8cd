//! The pool: one question for many, what a server bears, and servers that do not hold up others.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::join_all;
use tokio::sync::Semaphore;

use super::super::pool::MOST;
use super::*;
use crate::clock::{Clock as _, SimClock};

const ONE: &str = r#"{"status":"success","data":{"resultType":"scalar","result":[1,"1"]}}"#;

/// A server that counts, and answers when it is allowed to.
#[derive(Clone)]
struct Counted {
    all: Arc<AtomicUsize>,
    now: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
    open: Arc<Semaphore>,
}

impl Default for Counted {
    fn default() -> Self {
        let zero = Arc::<AtomicUsize>::default;
        Self { all: zero(), now: zero(), most: zero(), open: Arc::new(Semaphore::new(0)) }
    }
}

impl Counted {
    async fn serve(&self, status: u16, waits: bool) -> Fake {
        let this = self.clone();
        let handler = move || async move {
            this.all.fetch_add(1, Ordering::SeqCst);
            let now = this.now.fetch_add(1, Ordering::SeqCst) + 1;
            this.most.fetch_max(now, Ordering::SeqCst);
            if waits {
                this.open.acquire().await.unwrap().forget();
            }
            this.now.fetch_sub(1, Ordering::SeqCst);
            (StatusCode::from_u16(status).unwrap(), ONE)
        };
        serve(Router::new().fallback(handler)).await
    }

    fn count(&self) -> usize {
        self.all.load(Ordering::SeqCst)
    }

    /// Waits until so many requests are under way.
    async fn under_way(&self, wanted: usize) {
        while self.now.load(Ordering::SeqCst) < wanted {
            tokio::task::yield_now().await;
        }
    }
}

fn at(clock: &Arc<SimClock>, default: Server) -> Pool {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let catalog = Catalog { default: Some(default), ..Catalog::default() };
    Pool::made(catalog, None, clock.clone()).unwrap()
}

fn clock() -> Arc<SimClock> {
    Arc::new(SimClock::at(jiff::Timestamp::UNIX_EPOCH))
}

#[tokio::test]
async fn a_question_of_a_hundred_runs_in_one_second_is_asked_once() {
    let counted = Counted::default();
    let server = counted.serve(200, false).await;
    let clock = clock();
    let pool = at(&clock, Server::at(&server.address).unwrap());
    let ask = |text: &'static str| {
        let pool = pool.clone();
        async move { pool.query(&query(text, Source::default())).await.unwrap().sample }
    };
    let answers = join_all((0..100).map(|_| ask("same"))).await;
    assert!(answers.iter().all(|sample| *sample == Sample::Value(1.0)));
    ask("same").await;
    assert_eq!(counted.count(), 1);
    ask("another").await;
    assert_eq!(counted.count(), 2);
    clock.advance_to(jiff::Timestamp::from_second(1).unwrap());
    ask("same").await;
    assert_eq!(counted.count(), 3);
}

#[tokio::test]
async fn an_error_is_never_given_twice() {
    let counted = Counted::default();
    let server = counted.serve(400, false).await;
    let pool = at(&clock(), Server::at(&server.address).unwrap());
    for asked in 1..=3 {
        assert!(pool.query(&query("same", Source::default())).await.is_err());
        assert_eq!(counted.count(), asked);
    }
}

#[tokio::test]
async fn a_server_is_asked_no_more_at_a_time_than_it_bears() {
    let counted = Counted::default();
    let server = counted.serve(200, true).await;
    let pool = at(&clock(), Server { concurrent: 3, ..Server::at(&server.address).unwrap() });
    let asked = (0..12).map(|i| {
        let pool = pool.clone();
        tokio::spawn(async move { pool.query(&query(&format!("q{i}"), Source::default())).await })
    });
    let asked: Vec<_> = asked.collect();
    counted.under_way(3).await;
    counted.open.add_permits(12);
    for answer in asked {
        assert!(answer.await.unwrap().is_ok());
    }
    assert_eq!((counted.count(), counted.most.load(Ordering::SeqCst)), (12, 3));
}

#[tokio::test]
async fn a_server_that_hangs_holds_up_nobody_who_asks_another() {
    let (slow, fast) = (Counted::default(), Counted::default());
    let hanging = slow.serve(200, true).await;
    let server = fast.serve(200, false).await;
    let pool = at(&clock(), Server { concurrent: 2, ..Server::at(&hanging.address).unwrap() });
    let waiting: Vec<_> = (0..50)
        .map(|i| {
            let pool = pool.clone();
            let text = format!("q{i}");
            tokio::spawn(async move { pool.query(&query(&text, Source::default())).await })
        })
        .collect();
    slow.under_way(2).await;
    let others = (0..20).map(|i| ask_at(&pool, &server.address, format!("q{i}")));
    assert!(join_all(others).await.iter().all(Result::is_ok));
    assert!(waiting.iter().all(|asked| !asked.is_finished()));
    assert_eq!(slow.count(), 2);
    waiting.iter().for_each(tokio::task::JoinHandle::abort);
}

async fn ask_at(pool: &Pool, address: &str, text: String) -> Result<Answer, ProviderError> {
    pool.query(&query(&text, inline(address))).await
}

#[tokio::test]
async fn who_waits_longer_than_the_querys_timeout_is_told_which_limit_to_raise() {
    let counted = Counted::default();
    let server = counted.serve(200, true).await;
    let pool = at(&clock(), Server { concurrent: 1, ..Server::at(&server.address).unwrap() });
    let first = pool.clone();
    let first = tokio::spawn(async move { first.query(&query("first", Source::default())).await });
    counted.under_way(1).await;
    let timeout = Some(SignedDuration::from_millis(50));
    let second = pool.query(&query("second", Source { timeout, ..Source::default() })).await;
    let second = second.unwrap_err().to_string();
    assert!(second.contains("raise limits.concurrent"), "{second}");
    first.abort();

    let default = Server {
        per_second: 1,
        timeout: SignedDuration::from_millis(50),
        ..Server::at(&counted.serve(200, false).await.address).unwrap()
    };
    let gate = crate::providers::gate::Gate::of(&default);
    let limit = Duration::from_millis(50);
    drop(gate.enter(limit).await.unwrap());
    let error = gate.enter(limit).await.unwrap_err().to_string();
    assert!(error.contains("more than 1 queries a second wait"), "{error}");
}

#[tokio::test]
async fn a_server_that_says_it_is_too_much_is_left_alone() {
    let counted = Counted::default();
    let server = counted.serve(429, false).await;
    let pool = at(&clock(), Server::at(&server.address).unwrap());
    let first = pool.query(&query("a", Source::default())).await.unwrap_err();
    assert!(!first.to_string().contains("left alone"), "{first}");
    let errors = join_all((0..50).map(|i| {
        let pool = pool.clone();
        async move { pool.query(&query(&format!("q{i}"), Source::default())).await.unwrap_err() }
    }));
    for error in errors.await {
        assert!(error.to_string().contains("left alone for"), "{error}");
        let ProviderError::RateLimited { retry_after, .. } = error else { panic!("{error:?}") };
        assert!(retry_after.is_some_and(|after| after.is_positive()));
    }
    assert_eq!(counted.count(), 1);
}

#[tokio::test]
async fn one_query_that_fails_stops_no_other_and_three_in_a_row_do() {
    let gate = crate::providers::gate::Gate::of(&Server::at("http://x").unwrap());
    let failed = ProviderError::Server("boom".to_owned());
    let limit = Duration::from_secs(1);
    for _ in 0..5 {
        gate.learn(Some(&failed));
        gate.learn(Some(&failed));
        gate.learn(None);
        assert!(gate.enter(limit).await.is_ok());
    }
    for _ in 0..3 {
        gate.learn(Some(&failed));
    }
    let error = gate.enter(limit).await.unwrap_err();
    assert!(matches!(&error, ProviderError::Server(words) if words.ends_with("after: boom")));
}

#[tokio::test]
async fn answers_of_a_second_that_is_over_are_kept_no_longer() {
    let server = Counted::default().serve(200, false).await;
    let clock = clock();
    let pool = at(&clock, Server::at(&server.address).unwrap());
    for i in 0..20 {
        pool.query(&query(&format!("q{i}"), Source::default())).await.unwrap();
    }
    assert_eq!(pool.held().0, 20);
    clock.advance_to(clock.now() + jiff::SignedDuration::from_secs(1));
    pool.query(&query("another", Source::default())).await.unwrap();
    assert_eq!(pool.held().0, 1);
}

#[tokio::test]
async fn a_hundred_thousand_questions_and_thousands_of_servers_leave_a_bounded_number_behind() {
    let pool = pool(Catalog::default());
    let mut most = 0;
    for i in 0..100_000 {
        // Without a server it is refused at once, and kept as every answer is.
        assert!(pool.query(&query(&format!("q{i}"), Source::default())).await.is_err());
        most = most.max(pool.held().0);
    }
    assert!(most <= MOST, "{most} answers");
    for i in 0..5_000 {
        // Nobody listens there; each is a server of its own.
        let address = format!("http://127.1.{}.{}:1", i / 250, i % 250 + 1);
        assert!(pool.query(&query("q", inline(&address))).await.is_err());
    }
    assert!(pool.held().1 <= MOST, "{} gates", pool.held().1);
}
