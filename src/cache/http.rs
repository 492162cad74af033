//! Requests to peers over HTTP/1.1, on connections that are kept.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt as _;
use http_body_util::{BodyDataStream, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use super::peer::{Reply, Transport};
use super::wire::Request;

/// Peers keep idle connections for longer than this.
const IDLE_CONNECTION: Duration = Duration::from_secs(15);

/// Connections to peers.
#[derive(Debug)]
pub struct HttpTransport {
    client: Client<HttpConnector, Empty<Bytes>>,
}

impl HttpTransport {
    #[must_use]
    pub fn new(connect_timeout: Duration) -> HttpTransport {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(connect_timeout));
        let client =
            Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE_CONNECTION).build(connector);
        HttpTransport { client }
    }
}

#[async_trait]
impl Transport for HttpTransport {
    async fn send(&self, address: &str, request: &Request) -> Result<Reply, String> {
        let mut builder = hyper::Request::get(format!("http://{address}{}", request.path));
        for (name, value) in request.headers() {
            builder = builder.header(name, value);
        }
        let request = builder.body(Empty::new()).map_err(|error| error.to_string())?;
        let response = self.client.request(request).await.map_err(|error| in_full(&error))?;
        let status = response.status().as_u16();
        let body = BodyDataStream::new(response.into_body()).map(|piece| piece.map_err(|error| in_full(&error)));
        Ok(Reply { status, body: body.boxed() })
    }
}

/// hyper's errors say what went wrong only in their sources.
fn in_full(error: &dyn std::error::Error) -> String {
    let sources = std::iter::successors(error.source(), |error| error.source());
    sources.fold(error.to_string(), |text, source| format!("{text}: {source}"))
}
