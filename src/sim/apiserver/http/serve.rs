//! The server behind a socket: plain HTTP/1.1, bearer tokens, a kubeconfig to go with it.
//!
//! kubectl sends no credentials over plain HTTP, so a token may also stand at the front of the
//! path: `/token/TOKEN/api/v1/...`. The kubeconfig's server URL has it there.

use std::{collections::BTreeMap, future::Future, net::SocketAddr, sync::Arc};

use http::{Request, Response, Uri, header};
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tower::Service as _;

use super::{
    super::ApiServer,
    service::{Body, unauthorized},
};

/// Which bearer token is which user.
pub type Tokens = BTreeMap<String, String>;

impl ApiServer {
    /// Serves until `shutdown` is done. Connections that are open then are dropped.
    ///
    /// # Errors
    /// Those of the socket.
    pub async fn serve(
        self,
        listener: TcpListener,
        tokens: Tokens,
        shutdown: impl Future<Output = ()> + Send,
    ) -> std::io::Result<()> {
        let tokens = Arc::new(tokens);
        let mut connections = tokio::task::JoinSet::new();
        let mut shutdown = std::pin::pin!(shutdown);
        loop {
            let (stream, _) = tokio::select! {
                accepted = listener.accept() => accepted?,
                () = &mut shutdown => return Ok(()),
            };
            stream.set_nodelay(true)?;
            while connections.try_join_next().is_some() {}
            let (server, tokens) = (self.clone(), tokens.clone());
            connections.spawn(async move {
                let service = hyper::service::service_fn(move |request| {
                    answer(server.clone(), tokens.clone(), request)
                });
                let connection = hyper::server::conn::http1::Builder::new()
                    .timer(TokioTimer::new())
                    .serve_connection(TokioIo::new(stream), service);
                // A client that goes away in mid-answer is its own affair.
                connection.await.ok();
            });
        }
    }
}

async fn answer(
    server: ApiServer,
    tokens: Arc<Tokens>,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, Box<dyn std::error::Error + Send + Sync>> {
    let token = match take_token(request.uri()) {
        Some((token, rest)) => {
            *request.uri_mut() = rest.parse()?;
            token
        }
        None => {
            let header = request.headers().get(header::AUTHORIZATION);
            let token = header.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
            token.unwrap_or_default().to_owned()
        }
    };
    match tokens.get(&token) {
        Some(user) => server.service(user).call(request).await,
        None => Ok(unauthorized()),
    }
}

/// The token at the front of a path, and the path and query without it.
fn take_token(uri: &Uri) -> Option<(String, String)> {
    let rest = uri.path_and_query()?.as_str().strip_prefix("/token/")?;
    let (token, rest) = rest.split_once('/')?;
    Some((token.to_owned(), format!("/{rest}")))
}

/// A kubeconfig for a served server: one cluster, one user, the namespace `default`.
#[must_use]
pub fn kubeconfig(address: SocketAddr, token: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: sluice\n\
         clusters:\n- name: sluice\n  cluster:\n    server: \"http://{address}/token/{token}\"\n\
         users:\n- name: sluice\n  user:\n    token: \"{token}\"\n\
         contexts:\n- name: sluice\n  context:\n    cluster: sluice\n    user: sluice\n    \
         namespace: default\n"
    )
}
