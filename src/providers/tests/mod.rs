//! Every client against a local server that answers what the vendor documents.

mod asked;
mod auth;
mod aws;
mod cluster;
mod pool;
mod prometheus;
mod vendors;
mod web;

use std::collections::BTreeMap;

use axum::Router;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::*;
use crate::analysis::{NamedProvider, Source};

/// A server on a free port that ends with the test.
struct Fake {
    address: String,
    task: JoinHandle<()>,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(router: Router) -> Fake {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    Fake { address, task }
}

/// Answers each query of `answers` with its status and body.
async fn fake(answers: &[(&str, u16, &str)]) -> Fake {
    let answers: BTreeMap<String, (u16, String)> = answers
        .iter()
        .map(|(query, status, body)| ((*query).to_owned(), (*status, (*body).to_owned())))
        .collect();
    let handler = move |body: String| async move {
        let form = reqwest::Url::parse(&format!("http://form/?{body}")).unwrap();
        let asked = form.query_pairs().find(|(name, _)| name == "query").unwrap().1;
        let (status, body) = answers.get(asked.as_ref()).unwrap().clone();
        (StatusCode::from_u16(status).unwrap(), body)
    };
    let range = post(handler.clone());
    let router = Router::new().route("/prefix/api/v1/query", post(handler));
    serve(router.route("/prefix/api/v1/query_range", range)).await
}

fn query(text: &str, source: Source) -> Query {
    Query {
        metric: "m".to_owned(),
        namespace: "shop".to_owned(),
        source,
        text: text.to_owned(),
        ..Query::default()
    }
}

fn inline(address: &str) -> Source {
    Source { address: Some(address.to_owned()), ..Source::default() }
}

fn pool(catalog: Catalog) -> Pool {
    let _ = rustls::crypto::ring::default_provider().install_default();
    Pool::new(catalog).unwrap()
}

async fn ask(text: &str, source: Source) -> Result<Answer, ProviderError> {
    pool(Catalog::default()).query(&query(text, source)).await
}
