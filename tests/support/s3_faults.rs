//! What stands between the client and the S3 server: delays, refusals, silence and cut connections, switched while it runs.

use std::io;
use std::pin::Pin;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper::{Method, Request, Response};
use s3s::Body;
use s3s::service::S3Service;

/// What happens to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// 503 `SlowDown`, without doing it.
    SlowDown,
    /// 500 `InternalError`, after doing it.
    LostAnswer,
    /// No answer, ever; it is not done.
    Hang,
    /// The connection is closed without an answer; it is not done.
    Cut,
    /// The connection is closed without an answer; it is done.
    CutAfterDoing,
    /// It is done; the connection is closed after so many bytes of the answer's body.
    CutBody(usize),
}

/// The switches of one server.
#[derive(Debug, Default)]
pub struct Faults {
    plan: Mutex<Plan>,
    puts: AtomicU64,
    gets: AtomicU64,
    others: AtomicU64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Plan {
    delay: Duration,
    fault: Option<Fault>,
    /// How many more requests it hits; `None`: all.
    times: Option<u64>,
}

impl Faults {
    /// Every answer waits this long first.
    pub fn delay(&self, delay: Duration) {
        self.plan.lock().expect("plan").delay = delay;
    }

    /// Every request from now on fails like this.
    pub fn always(&self, fault: Fault) {
        let mut plan = self.plan.lock().expect("plan");
        (plan.fault, plan.times) = (Some(fault), None);
    }

    /// The next `times` requests fail like this.
    pub fn next(&self, times: u64, fault: Fault) {
        let mut plan = self.plan.lock().expect("plan");
        (plan.fault, plan.times) = (Some(fault), Some(times));
    }

    /// No more faults and no more delay. What hangs already goes on hanging.
    pub fn heal(&self) {
        *self.plan.lock().expect("plan") = Plan::default();
    }

    /// PUT requests seen, also failed ones.
    pub fn puts(&self) -> u64 {
        self.puts.load(Ordering::Relaxed)
    }

    /// GET requests seen (reads of objects and listings), also failed ones.
    pub fn gets(&self) -> u64 {
        self.gets.load(Ordering::Relaxed)
    }

    /// Requests seen that are neither.
    pub fn others(&self) -> u64 {
        self.others.load(Ordering::Relaxed)
    }

    fn count(&self, method: &Method) {
        let counter = match *method {
            Method::PUT => &self.puts,
            Method::GET => &self.gets,
            _ => &self.others,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn draw(&self) -> (Duration, Option<Fault>) {
        let mut plan = self.plan.lock().expect("plan");
        let fault = match &mut plan.times {
            None => plan.fault,
            Some(0) => None,
            Some(times) => {
                *times -= 1;
                plan.fault
            }
        };
        (plan.delay, fault)
    }

    /// Answers `request` by `serve`, or not.
    pub(super) async fn around(&self, request: Request<Incoming>, service: S3Service) -> io::Result<Response<Body>> {
        self.count(request.method());
        let (delay, fault) = self.draw();
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        let answer = match fault {
            Some(Fault::SlowDown) => {
                drain(request.into_body().into()).await;
                return Ok(error_answer(503, "SlowDown"));
            }
            Some(Fault::Hang) => std::future::pending().await,
            Some(Fault::Cut) => return Err(io::Error::other("cut on purpose")),
            Some(Fault::LostAnswer | Fault::CutAfterDoing | Fault::CutBody(_)) | None => serve(service, request.map(Body::from)).await?,
        };
        match fault {
            Some(Fault::LostAnswer) => Ok(error_answer(500, "InternalError")),
            Some(Fault::CutAfterDoing) => Err(io::Error::other("cut on purpose")),
            Some(Fault::CutBody(after)) => Ok(answer.map(|body| Body::http_body(CutBody { body, left: after }))),
            Some(Fault::SlowDown | Fault::Hang | Fault::Cut) | None => Ok(answer),
        }
    }
}

async fn serve(service: S3Service, request: Request<Body>) -> io::Result<Response<Body>> {
    service.call(request).await.map_err(|error| io::Error::other(format!("{error:?}")))
}

/// Reads a body to its end, so that the client is listening when the answer comes.
async fn drain(mut body: Body) {
    while let Some(Ok(_)) = body.next().await {}
}

fn error_answer(status: u16, code: &str) -> Response<Body> {
    let xml = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>{code}</Code><Message>on purpose</Message></Error>");
    Response::builder().status(status).header("content-type", "application/xml").body(Body::from(xml)).expect("an answer")
}

/// A body that fails after some bytes; hyper then closes the connection.
struct CutBody {
    body: Body,
    left: usize,
}

impl http_body::Body for CutBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.left == 0 {
            return Poll::Ready(Some(Err(io::Error::other("cut on purpose"))));
        }
        let Some(frame) = std::task::ready!(Pin::new(&mut self.body).poll_frame(context)) else { return Poll::Ready(None) };
        let Ok(mut data) = frame.map_err(io::Error::other)?.into_data() else { return Poll::Ready(None) };
        data.truncate(self.left);
        self.left -= data.len();
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
