//! The port for peers: what the cache lends, over HTTP/1.1.
//!
//! Whoever reaches the port can cost little: connections, heads and times have limits, and nothing is looked up for a request that is not signed.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use http_body_util::StreamBody;
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::http::AdminError;
use crate::cache::Lender;
use crate::tasks::Tasks;

const CONNECTIONS: usize = 512;
/// Bytes buffered for a connection; also the largest head of a request.
const BUFFER_BYTES: usize = 64 * 1024;
/// A connection on which no request comes for so long is closed.
const IDLE: Duration = Duration::from_mins(1);
/// An answer that is not taken within this time is given up, and its connection closed.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// When no connection can be accepted, for want of files for example.
const PAUSE: Duration = Duration::from_millis(100);

/// A port that peers can connect to, but on which nobody answers yet.
#[derive(Debug)]
pub struct PeerPort {
    listener: TcpListener,
    pub address: SocketAddr,
}

impl PeerPort {
    /// # Errors
    /// [`AdminError`] if the port is taken.
    pub async fn bind(host: &str, port: u16) -> Result<PeerPort, AdminError> {
        let failed = |error| AdminError::new("the cache's peer port", "YAKS_GROUPCACHE_PORT", host, port, error);
        let listener = TcpListener::bind((host, port)).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(PeerPort { listener, address })
    }

    /// Lends until `tasks` are stopped.
    pub fn serve(self, lender: Lender, tasks: &Tasks) {
        let (stop, connections) = (tasks.stop_token(), tasks.clone());
        tasks.spawn("peer port", async move {
            let room = Arc::new(Semaphore::new(CONNECTIONS));
            while let Some(accepted) = stop.run_until_cancelled(self.listener.accept()).await {
                let Ok((socket, _)) = accepted else {
                    sleep(PAUSE).await;
                    continue;
                };
                // Without room it is closed at once; the peer asks the store.
                if let Ok(permit) = Arc::clone(&room).try_acquire_owned() {
                    connections.spawn("peer connection", connection(socket, lender.clone(), stop.clone(), permit));
                }
            }
        });
    }
}

type Body = StreamBody<BoxStream<'static, Result<Frame<Bytes>, Infallible>>>;

async fn connection(socket: TcpStream, lender: Lender, stop: CancellationToken, _room: OwnedSemaphorePermit) {
    // Without it only the answers would be slower.
    let _ = socket.set_nodelay(true);
    let (set_began, began) = watch::channel(None);
    let set_began = Arc::new(set_began);
    let service = service_fn(move |request: Request<Incoming>| {
        let answer = answer(&lender, &request, &set_began);
        async move { Ok::<_, Infallible>(answer) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(IDLE).max_buf_size(BUFFER_BYTES);
    let served = builder.serve_connection(TokioIo::new(socket), service);
    tokio::pin!(served);
    // A peer that goes away in the middle has its reasons.
    tokio::select! {
        biased;
        _ = &mut served => return,
        () = not_taken(began.clone()) => return,
        () = stop.cancelled() => {}
    }
    served.as_mut().graceful_shutdown();
    tokio::select! {
        biased;
        _ = served => {}
        () = not_taken(began) => {}
    }
}

/// Completes when an answer that was begun is not taken in time.
async fn not_taken(mut answer: watch::Receiver<Option<Instant>>) {
    loop {
        let began = *answer.borrow_and_update();
        tokio::select! {
            biased;
            changed = answer.changed() => if changed.is_err() { std::future::pending().await },
            () = sleep_until(began.unwrap_or_else(Instant::now) + ANSWER_WITHIN), if began.is_some() => return,
        }
    }
}

/// Set while an answer is on its way.
struct OnItsWay(Arc<watch::Sender<Option<Instant>>>);

impl OnItsWay {
    fn new(set_began: &Arc<watch::Sender<Option<Instant>>>) -> OnItsWay {
        set_began.send_replace(Some(Instant::now()));
        OnItsWay(Arc::clone(set_began))
    }
}

impl Drop for OnItsWay {
    fn drop(&mut self) {
        self.0.send_replace(None);
    }
}

fn answer(lender: &Lender, request: &Request<Incoming>, set_began: &Arc<watch::Sender<Option<Instant>>>) -> Response<Body> {
    let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
    let path = request.uri().path_and_query().map_or("", |path| path.as_str());
    let (status, pieces) = match lender.answer(request.method().as_str(), path, header) {
        Ok(pieces) => (StatusCode::OK, pieces),
        Err(refusal) => {
            let status = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::BAD_REQUEST);
            (status, futures_util::stream::iter([Bytes::from(format!("{}\n", refusal.reason()))]).boxed())
        }
    };
    let on_its_way = OnItsWay::new(set_began);
    let pieces = pieces.map(move |piece| {
        let _ = &on_its_way;
        Ok(Frame::data(piece))
    });
    let mut response = Response::new(StreamBody::new(pieces.boxed()));
    *response.status_mut() = status;
    response
}
