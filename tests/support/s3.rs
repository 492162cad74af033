//! An S3 server inside this process, with faults at the flick of a switch: for tests, benchmarks and machines without Docker.
//!
//! Two back ends: [`S3Server::s3s_fs`] is other people's code and checks checksums, so it judges our client; [`S3Server::in_memory`] and
//! [`S3Server::in_directory`] are ours and send large pieces, so that a benchmark measures the client and not the server. This file knows nothing of yaks: it
//! is included with `#[path]` wherever it is needed.
#![allow(dead_code, unreachable_pub, missing_debug_implementations, clippy::disallowed_methods, clippy::expect_used)]

#[path = "s3_backend.rs"]
mod backend;
#[path = "s3_faults.rs"]
mod faults;

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

#[allow(unused_imports)]
pub use faults::{Fault, Faults};

pub const BUCKET: &str = "test-bucket";
pub const REGION: &str = "us-east-1";
pub const ACCESS_KEY: &str = "test";
pub const SECRET_KEY: &str = "test";

/// A running server. It stops, with all its connections, when this is dropped.
pub struct S3Server {
    /// `http://127.0.0.1:PORT`.
    pub endpoint: String,
    pub faults: Arc<Faults>,
    accepting: JoinHandle<()>,
}

impl Drop for S3Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl S3Server {
    /// s3s-fs over `dir`, with the bucket [`BUCKET`] made.
    pub async fn s3s_fs(dir: &Path) -> S3Server {
        std::fs::create_dir_all(dir.join(BUCKET)).expect("bucket directory");
        let fs = s3s_fs::FileSystem::new(dir).expect("s3s-fs");
        Self::start(S3ServiceBuilder::new(fs), any_port()).await.expect("free port")
    }

    /// Objects in memory, with the bucket [`BUCKET`] made.
    pub async fn in_memory() -> S3Server {
        Self::serve_memory(any_port()).await.expect("free port")
    }

    pub async fn serve_memory(listen: SocketAddr) -> io::Result<S3Server> {
        Self::start(S3ServiceBuilder::new(backend::Backend::in_memory(BUCKET)), listen).await
    }

    /// Objects as files below `dir`, with the bucket [`BUCKET`] made. Not synced to disk.
    pub async fn in_directory(dir: &Path, listen: SocketAddr) -> io::Result<S3Server> {
        Self::start(S3ServiceBuilder::new(backend::Backend::in_directory(dir, BUCKET)?), listen).await
    }

    async fn start(mut service: S3ServiceBuilder, listen: SocketAddr) -> io::Result<S3Server> {
        service.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        let listener = TcpListener::bind(listen).await?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        let faults = Arc::new(Faults::default());
        let accepting = tokio::spawn(accept(listener, service.build(), Arc::clone(&faults)));
        Ok(S3Server { endpoint, faults, accepting })
    }
}

pub fn any_port() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

async fn accept(listener: TcpListener, service: S3Service, faults: Arc<Faults>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((socket, _)) = accepted else { continue };
                connections.spawn(connection(socket, service.clone(), Arc::clone(&faults)));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(socket: TcpStream, service: S3Service, faults: Arc<Faults>) {
    // Without it an answer in two writes waits 40 ms for the client's delayed acknowledgement.
    let Ok(()) = socket.set_nodelay(true) else { return };
    let answer = service_fn(move |request: hyper::Request<Incoming>| {
        let (service, faults) = (service.clone(), Arc::clone(&faults));
        async move { faults.around(request, service).await }
    });
    // A client that goes away is nothing to report.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(socket), answer).await;
}
