//! The tower service: one HTTP request in, one answer or stream out.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use serde_json::{Value, json};

use super::{
    super::{ApiServer, ApiStatus, Call, Kind, PatchType, Refusable, Verb, discovery, openapi},
    faults::{Fault, RequestInfo},
    log::LogEntry,
    present,
    route::{self, Target},
    watch::Watch,
};

/// Body of an answer.
pub type Body = UnsyncBoxBody<Bytes, Infallible>;

/// What breaks instead of an answer: the client's body, or the connection by a fault.
pub type Broken = Box<dyn std::error::Error + Send + Sync>;

/// A server as one user sees it; `kube::Client::new` takes it.
#[derive(Clone)]
pub struct ApiService {
    server: ApiServer,
    user: String,
}

impl ApiServer {
    /// The server as this user sees it, for `kube::Client::new`.
    #[must_use]
    pub fn service(&self, user: &str) -> ApiService {
        ApiService { server: self.clone(), user: user.to_owned() }
    }

    /// A client of the server, in the namespace `default`.
    #[must_use]
    pub fn client(&self, user: &str) -> kube::Client {
        kube::Client::new(self.service(user), "default")
    }
}

impl<B> tower::Service<Request<B>> for ApiService
where
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Broken>,
{
    type Response = Response<Body>;
    type Error = Broken;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.map_err(Into::into)?.to_bytes();
            this.answer(&head, &body).await
        })
    }
}

impl ApiService {
    async fn answer(
        &self,
        head: &http::request::Parts,
        body: &Bytes,
    ) -> Result<Response<Body>, Broken> {
        let asked = head.headers.get("impersonate-user").and_then(|value| value.to_str().ok());
        let user = asked.unwrap_or(&self.user);
        let answer = match self.read(head, body, user) {
            Ok(asked) => self.judged(asked).await?,
            Err(refusal) => refuse(&refusal),
        };
        self.server.log().add(|| LogEntry {
            method: head.method.to_string(),
            path: head.uri.path().to_owned(),
            query: head.uri.query().unwrap_or_default().to_owned(),
            user: user.to_owned(),
            status: answer.status().as_u16(),
            body: body.len(),
        });
        Ok(answer)
    }

    fn read(&self, head: &http::request::Parts, body: &Bytes, user: &str) -> Refusable<Asked> {
        let header = |name: header::HeaderName| {
            head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
        };
        let query = route::query(head.uri.query().unwrap_or_default());
        let mut target = route::target(&head.method, head.uri.path(), &query, user)?;
        if let Target::Resource(call) = &mut target {
            call.options.user_agent = Some(header(header::USER_AGENT).to_owned());
            route::body(call, header(header::CONTENT_TYPE), body)?;
        }
        let info = self.server.next_request(user, &target);
        Ok(Asked { target, query, accept: header(header::ACCEPT).to_owned(), info })
    }

    /// The answer, after the faults had their say.
    async fn judged(&self, asked: Asked) -> Result<Response<Body>, Broken> {
        let mut fault = self.server.faults().judge(&asked.info);
        while let Fault::Delay(by, then) = fault {
            tokio::time::sleep(by).await;
            fault = *then;
        }
        match fault {
            Fault::Refuse(status) => Ok(refuse(&status)),
            Fault::Disconnect { done: false } => Err("the connection was reset".into()),
            Fault::Disconnect { done: true } => {
                self.work(asked, Fault::Pass);
                Err("the connection was reset".into())
            }
            Fault::LoseAnswer(status) => {
                self.work(asked, Fault::Pass);
                Ok(refuse(&status))
            }
            fault => Ok(self.work(asked, fault)),
        }
    }

    fn work(&self, asked: Asked, fault: Fault) -> Response<Body> {
        let Asked { target, query, accept, .. } = asked;
        let server = &self.server;
        let answer = match target {
            Target::Version => Ok(json_answer(200, &discovery::version())),
            Target::Health => Ok(plain(200, "text/plain", Bytes::from_static(b"ok"))),
            Target::Core => Ok(discovered(server, &accept, true)),
            Target::Groups => Ok(discovered(server, &accept, false)),
            Target::Group(group) => discovery::group(&server.lock().kinds, &group).map(ok),
            Target::Resources(group, version) => {
                discovery::resources(&server.lock().kinds, &group, &version).map(ok)
            }
            Target::OpenApiIndex => Ok(ok(openapi::index(&server.lock().kinds))),
            Target::OpenApi(group, version) => {
                openapi::document(&server.lock().kinds, &group, &version).map(ok)
            }
            Target::Resource(call) => self.resource(*call, &accept),
            Target::Watch(call) => present::form(&accept).and_then(|form| {
                let watch = Watch::new(server, &call, &query, form, fault)?;
                let body = StreamBody::new(watch.stream()).boxed_unsync();
                Ok(with_type(200, "application/json", body))
            }),
        };
        answer.unwrap_or_else(|refusal| refuse(&refusal))
    }

    fn resource(&self, call: Call, accept: &str) -> Refusable<Response<Body>> {
        let form = present::form(accept)?;
        let kind = self.server.lock().kinds.get(&call.resource).cloned();
        let kind = kind.ok_or_else(ApiStatus::no_such_resource)?;
        in_scope(&kind, &call)?;
        let reply = self.server.handle(call)?;
        let value = present::shape(form, &kind, reply.value, self.server.now());
        let mut answer = json_answer(if reply.created { 201 } else { 200 }, &value);
        for warning in &reply.warnings {
            let text = format!("299 - {:?}", warning);
            if let Ok(value) = text.parse() {
                answer.headers_mut().append(header::WARNING, value);
            }
        }
        Ok(answer)
    }
}

/// One request, read.
struct Asked {
    target: Target,
    query: route::Query,
    accept: String,
    info: RequestInfo,
}

/// Namespaced resources need a namespace for all but lists; cluster-scoped ones have none.
fn in_scope(kind: &Kind, call: &Call) -> Refusable<()> {
    let whole = matches!(call.verb, Verb::List | Verb::DeleteCollection);
    let fits = match (kind.namespaced, &call.namespace) {
        (true, None) => whole,
        (true, Some(_)) | (false, None) => true,
        (false, Some(_)) => false,
    };
    if fits { Ok(()) } else { Err(ApiStatus::no_such_resource()) }
}

/// The verb of a request, as authorisers call it.
pub(super) fn verb_of(target: &Target) -> &'static str {
    match target {
        Target::Watch(_) => "watch",
        Target::Resource(call) => match call.verb {
            Verb::Get => "get",
            Verb::List => "list",
            Verb::Create => "create",
            Verb::Update => "update",
            Verb::Patch(PatchType::Apply) => "apply",
            Verb::Patch(_) => "patch",
            Verb::Delete => "delete",
            Verb::DeleteCollection => "deletecollection",
        },
        _ => "other",
    }
}

impl ApiServer {
    fn next_request(&self, user: &str, target: &Target) -> RequestInfo {
        let number = self.count_request();
        let call = match target {
            Target::Resource(call) | Target::Watch(call) => Some(call),
            _ => None,
        };
        let text = |field: fn(&Call) -> String| call.map(|call| field(call)).unwrap_or_default();
        RequestInfo {
            number,
            user: user.to_owned(),
            verb: verb_of(target),
            group: text(|call| call.resource.group.to_string()),
            resource: text(|call| call.resource.plural.to_string()),
            subresource: call.and_then(|call| call.subresource.clone()),
            namespace: call.and_then(|call| call.namespace.clone()),
            name: call.and_then(|call| call.name.clone()),
        }
    }
}

fn discovered(server: &ApiServer, accept: &str, core: bool) -> Response<Body> {
    let state = server.lock();
    if accept.contains("as=APIGroupDiscoveryList") {
        let version =
            if accept.contains("v=v2;") || accept.contains("v=v2,") { "v2" } else { "v2beta1" };
        let value = discovery::aggregated(&state.kinds, core, version);
        let media =
            format!("application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList");
        return plain(200, &media, Bytes::from(value.to_string()));
    }
    let value = if core { discovery::core_versions() } else { discovery::groups(&state.kinds) };
    json_answer(200, &value)
}

fn ok(value: Value) -> Response<Body> {
    json_answer(200, &value)
}

fn refuse(status: &ApiStatus) -> Response<Body> {
    let mut answer = json_answer(status.code, &status.to_value());
    if status.code == 429 {
        answer.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
    }
    answer
}

/// 401, for requests without a known token.
pub(super) fn unauthorized() -> Response<Body> {
    json_answer(
        401,
        &json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                "message": "Unauthorized", "reason": "Unauthorized", "code": 401}),
    )
}

fn json_answer(code: u16, value: &Value) -> Response<Body> {
    // The same text as `to_string`, without the formatter between.
    let text = serde_json::to_vec(value).unwrap_or_default();
    plain(code, "application/json", Bytes::from(text))
}

fn plain(code: u16, media: &str, bytes: Bytes) -> Response<Body> {
    with_type(code, media, Full::new(bytes).boxed_unsync())
}

fn with_type(code: u16, media: &str, body: Body) -> Response<Body> {
    let mut answer = Response::new(body);
    *answer.status_mut() =
        http::StatusCode::from_u16(code).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    if let Ok(value) = header::HeaderValue::from_str(media) {
        answer.headers_mut().insert(header::CONTENT_TYPE, value);
    }
    answer
}
