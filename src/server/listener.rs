//! Accepting connections, up to a limit, and ending them all in good order.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpSocket, TcpStream, lookup_host};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::ServerConfig;
use super::connection::{self, Shared};
use super::shed::{Parts, When};
use crate::budget::Budget;
use crate::handlers::Serve;
use crate::metrics::{ConnectionMetrics, RequestMetrics};
use crate::tasks::Tasks;
use crate::traces::Traces;

/// Connections that wait to be accepted; the system may allow fewer.
const BACKLOG: u32 = 4_096;

/// After a failed accept (usually: out of file descriptors) nothing is accepted for this long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// When a silent connection is probed, and how often until it counts as dead: two minutes in all.
const KEEPALIVE: TcpKeepalive =
    TcpKeepalive::new().with_time(Duration::from_mins(1)).with_interval(Duration::from_secs(15)).with_retries(4);

/// The instruments of the server.
#[derive(Debug, Clone)]
pub struct ServerMetrics {
    pub connections: ConnectionMetrics,
    pub requests: RequestMetrics,
    pub traces: Traces,
}

/// A listening server.
pub struct Server {
    address: SocketAddr,
    tasks: Tasks,
    abort: CancellationToken,
    parts: Parts,
}

/// Ends connections while others go on.
#[derive(Debug, Clone)]
pub struct Shedding(Parts);

impl Shedding {
    /// Ends a share of the connections (0 to 1), a few at a time over `over`: then, or with their next request, as `when` says. What they have asked before is
    /// answered. May be dropped.
    pub async fn shed(&self, share: f64, when: When, over: Duration) {
        let parts = self.0.take(share, when);
        for part in &parts {
            part.end(when);
            tokio::time::sleep(over / parts.len() as u32).await;
        }
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("address", &self.address).finish_non_exhaustive()
    }
}

/// A port that is taken and not served yet: clients that come wait.
#[derive(Debug)]
pub struct Listening {
    listener: TcpListener,
    address: SocketAddr,
}

impl Listening {
    /// Listens on a name or an address; port 0 takes any free one.
    ///
    /// # Errors
    /// The address cannot be found or listened on.
    pub async fn bind(host: &str, port: u16) -> io::Result<Listening> {
        let listener = listen(host, port).await?;
        Ok(Listening { address: listener.local_addr()?, listener })
    }

    /// Where it listens: with the real port if any was asked for.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until [`Server::stop`]. `budget` is charged with the bytes of requests until they are answered.
    #[must_use]
    pub fn serve(self, config: ServerConfig, service: Arc<dyn Serve>, budget: Budget, metrics: ServerMetrics, tasks: &Tasks) -> Server {
        let server = Server { address: self.address, tasks: tasks.group(), abort: CancellationToken::new(), parts: Parts::default() };
        let shared = Shared {
            config: Arc::new(config),
            service,
            budget,
            metrics,
            tasks: server.tasks.clone(),
            abort: server.abort.clone(),
            parts: server.parts.clone(),
        };
        server.tasks.spawn("listener", accept_all(self.listener, shared));
        server
    }
}

impl Server {
    /// Where it listens: with the real port if any was asked for.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// To end a part of the connections.
    #[must_use]
    pub fn shedding(&self) -> Shedding {
        Shedding(self.parts.clone())
    }

    /// Accepts and reads nothing more, lets the answers in flight leave, closes; what is left after `deadline` is cut off. False if something was.
    pub async fn stop(&self, deadline: Duration) -> bool {
        let drained = self.tasks.stop(deadline).await;
        if !drained {
            self.abort.cancel();
            self.tasks.stop(ACCEPT_PAUSE).await;
        }
        drained
    }
}

async fn listen(host: &str, port: u16) -> io::Result<TcpListener> {
    let mut last = io::Error::new(io::ErrorKind::AddrNotAvailable, format!("{host} has no address"));
    for address in lookup_host((host, port)).await? {
        match bind(address) {
            Ok(listener) => return Ok(listener),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

async fn accept_all(listener: TcpListener, shared: Shared) {
    let stop = shared.tasks.stop_token();
    let places = Arc::new(Semaphore::new(shared.config.max_connections));
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        match accepted {
            Ok((stream, peer)) => admit(stream, peer, &shared, &places),
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                stop.run_until_cancelled(tokio::time::sleep(ACCEPT_PAUSE)).await;
            }
        }
    }
    // Whoever was connected by the system already would else be cut off before it said a word.
    for _ in 0..BACKLOG {
        let Some(Ok((stream, peer))) = tokio::task::unconstrained(listener.accept()).now_or_never() else { break };
        admit(stream, peer, &shared, &places);
    }
}

fn admit(stream: TcpStream, peer: SocketAddr, shared: &Shared, places: &Arc<Semaphore>) {
    let Ok(place) = Arc::clone(places).try_acquire_owned() else {
        shared.metrics.connections.refused();
        tracing::debug!(%peer, limit = shared.config.max_connections, "connection refused: the limit is reached");
        return;
    };
    let Some(term) = shared.service.term() else {
        shared.metrics.connections.refused();
        tracing::debug!(%peer, "connection refused: this agent may not serve now");
        return;
    };
    if let Err(error) = prepare(&stream) {
        // It was reset before we looked at it.
        tracing::debug!(%peer, %error, "connection lost");
        return;
    }
    connection::start(stream, peer, shared, term, place);
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    SockRef::from(stream).set_tcp_keepalive(&KEEPALIVE)
}
