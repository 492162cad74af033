//! The routes and their listener.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;

use crate::metrics::Metrics;
use crate::tasks::Tasks;

/// Can this agent serve a client now?
#[async_trait]
pub trait Readiness: Send + Sync + std::fmt::Debug {
    /// # Errors
    /// What is missing, a line for each.
    async fn ready(&self) -> Result<(), String>;
}

/// The listener could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("{what} cannot listen on {address}: {error}; set {setting} to a free port, or to 0 for any")]
pub struct AdminError {
    what: &'static str,
    setting: &'static str,
    address: String,
    error: std::io::Error,
}

impl AdminError {
    pub(super) fn new(what: &'static str, setting: &'static str, host: &str, port: u16, error: std::io::Error) -> AdminError {
        AdminError { what, setting, address: format!("{host}:{port}"), error }
    }
}

/// Serving `/livez`, `/readyz` and `/metrics`.
#[derive(Debug)]
pub struct Admin {
    pub address: SocketAddr,
}

/// A readiness check that takes longer than this has its answer: no.
const READY_WITHIN: Duration = Duration::from_secs(5);

#[derive(Debug, Clone)]
struct Parts {
    metrics: Arc<Metrics>,
    readiness: Arc<dyn Readiness>,
}

impl Admin {
    /// Listens and serves until `tasks` are stopped.
    ///
    /// # Errors
    /// [`AdminError`] if the port is taken.
    pub async fn start(
        host: &str,
        port: u16,
        metrics: Arc<Metrics>,
        readiness: Arc<dyn Readiness>,
        tasks: &Tasks,
    ) -> Result<Admin, AdminError> {
        let failed = |error| AdminError::new("metrics and health", "YAKS_METRICS_PORT", host, port, error);
        let listener = TcpListener::bind((host, port)).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let router = Router::new()
            .route("/livez", get(|| async { "ok\n" }))
            .route("/readyz", get(readyz))
            .route("/metrics", get(render))
            .with_state(Parts { metrics, readiness });
        let stop = tasks.stop_token();
        tasks.spawn("admin", async move {
            let stopped = async move { stop.cancelled().await };
            if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(stopped).await {
                tracing::error!(%error, "metrics and health are no longer served");
            }
        });
        Ok(Admin { address })
    }
}

async fn readyz(State(parts): State<Parts>) -> Response {
    match tokio::time::timeout(READY_WITHIN, parts.readiness.ready()).await {
        Ok(Ok(())) => "ok\n".into_response(),
        Ok(Err(missing)) => (StatusCode::SERVICE_UNAVAILABLE, format!("{missing}\n")).into_response(),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, format!("no answer within {READY_WITHIN:?}\n")).into_response(),
    }
}

async fn render(State(parts): State<Parts>) -> Response {
    match parts.metrics.render() {
        Ok(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}
