//! Many connections that are opened, ask once, and then say nothing: plain sockets, no client library.

use std::sync::Arc;
use std::time::Duration;

use hdrhistogram::Histogram;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::clients::BenchError;
use super::process::{self, Usage};
use super::report::{Better, Figure, latencies, new_histogram};
use super::target::Target;

/// Round trips measured on idle connections and on new ones.
const ROUND_TRIPS: usize = 500;
/// How long one connection may take until it has its answer.
const TIMEOUT: Duration = Duration::from_mins(2);
/// The largest answer to `ApiVersions` that is believed, bytes.
const ANSWER_MAX: usize = 1 << 20;

/// Opens `count` connections, `parallel` at a time, and asks again on some of them when all are there.
///
/// # Errors
/// A connection is refused, closed or not answered; too many open files.
pub(super) async fn idle_connections(target: &Target, count: u32, parallel: u32) -> Result<Vec<Figure>, BenchError> {
    let address: Arc<str> = target.brokers.split(',').next().unwrap_or_default().into();
    let before = process::usage(&target.processes).map_err(BenchError::Process)?;
    let start = Instant::now();
    let mut connections = open_all(&address, count, parallel).await?;
    let opening = start.elapsed();
    let mut figures = vec![
        Figure::new(format!("open {count}"), "s", opening.as_secs_f64(), Better::Lower),
        Figure::new("open".to_owned(), "connections/s", f64::from(count) / opening.as_secs_f64(), Better::Higher),
    ];
    let after = process::usage(&target.processes).map_err(BenchError::Process)?;
    figures.extend(memory(&before, &after, count));
    figures.extend(latencies("answer on an idle connection", &ask_again(&mut connections).await?));
    figures.extend(latencies("answer on a new connection", &ask_anew(&address, count).await?));
    Ok(figures)
}

fn memory(before: &[Usage], after: &[Usage], count: u32) -> Vec<Figure> {
    if after.is_empty() {
        return Vec::new();
    }
    let (before, after) = (process::resident(before) as f64, process::resident(after) as f64);
    vec![
        Figure::new("resident with all open".to_owned(), "MB", after / 1e6, Better::Lower),
        Figure::new("resident per connection".to_owned(), "KB", (after - before) / 1e3 / f64::from(count), Better::Lower),
    ]
}

async fn open_all(address: &Arc<str>, count: u32, parallel: u32) -> Result<Vec<TcpStream>, BenchError> {
    let mut openers = JoinSet::new();
    for first in 0..parallel.min(count) {
        let address = Arc::clone(address);
        openers.spawn(async move {
            let mut opened = Vec::new();
            for number in (first..count).step_by(parallel as usize) {
                opened.push(open(&address, number).await?);
            }
            Ok::<_, BenchError>(opened)
        });
    }
    let mut all = Vec::with_capacity(count as usize);
    while let Some(opened) = openers.join_next().await {
        all.extend(opened.map_err(|_| BenchError::Broken)??);
    }
    Ok(all)
}

async fn open(address: &str, number: u32) -> Result<TcpStream, BenchError> {
    let opening = async {
        let mut connection = TcpStream::connect(address).await?;
        connection.set_nodelay(true)?;
        ask(&mut connection).await?;
        Ok(connection)
    };
    let late = || Err(std::io::Error::from(std::io::ErrorKind::TimedOut));
    tokio::time::timeout(TIMEOUT, opening).await.unwrap_or_else(|_| late()).map_err(|source| BenchError::Connection { number, source })
}

/// `ApiVersions` version 0 with correlation id 7 and the client id "bench": what every broker answers, whoever asks.
const REQUEST: &[u8] = b"\0\0\0\x0f\0\x12\0\0\0\0\0\x07\0\x05bench";

/// One round trip; the answer must carry the correlation id and no error.
async fn ask(connection: &mut TcpStream) -> std::io::Result<()> {
    connection.write_all(REQUEST).await?;
    let length = connection.read_u32().await? as usize;
    if !(6..=ANSWER_MAX).contains(&length) {
        return Err(std::io::ErrorKind::InvalidData.into());
    }
    let mut answer = vec![0; length];
    connection.read_exact(&mut answer).await?;
    if answer.starts_with(&[0, 0, 0, 7, 0, 0]) { Ok(()) } else { Err(std::io::ErrorKind::InvalidData.into()) }
}

async fn ask_again(connections: &mut [TcpStream]) -> Result<Histogram<u64>, BenchError> {
    let mut times = new_histogram()?;
    let step = (connections.len() / ROUND_TRIPS).max(1);
    for (number, connection) in connections.iter_mut().enumerate().step_by(step) {
        let start = Instant::now();
        ask(connection).await.map_err(|source| BenchError::Connection { number: number as u32, source })?;
        times.saturating_record(start.elapsed().as_nanos() as u64);
    }
    Ok(times)
}

async fn ask_anew(address: &str, count: u32) -> Result<Histogram<u64>, BenchError> {
    let mut times = new_histogram()?;
    for number in 0..ROUND_TRIPS as u32 / 10 {
        let start = Instant::now();
        open(address, count + number).await?;
        times.saturating_record(start.elapsed().as_nanos() as u64);
    }
    Ok(times)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// A broker that answers every request on every connection with `answer`.
    async fn broker(answer: &'static [u8]) -> Target {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let brokers = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            loop {
                let (mut connection, _) = listener.accept().await.unwrap();
                tokio::spawn(async move {
                    let mut request = vec![0; REQUEST.len()];
                    while connection.read_exact(&mut request).await.is_ok() {
                        assert_eq!(request, REQUEST);
                        connection.write_all(answer).await.unwrap();
                    }
                });
            }
        });
        Target { name: "A".to_owned(), brokers, processes: Vec::new() }
    }

    #[tokio::test]
    async fn connections_are_opened_and_asked_again() {
        let target = broker(b"\0\0\0\x0a\0\0\0\x07\0\0\0\0\0\0").await;
        let figures = idle_connections(&target, 25, 4).await.unwrap();
        assert!(figures.iter().any(|f| f.name == "open 25"));
        assert!(figures.iter().any(|f| f.name.starts_with("answer on an idle connection")));
    }

    #[tokio::test]
    async fn a_wrong_answer_is_an_error() {
        for wrong in [&b"\0\0\0\x06\0\0\0\x07\0\x23"[..], b"\0\0\0\x06\0\0\0\x08\0\0", b"\x7f\xff\xff\xff"] {
            let target = broker(wrong).await;
            assert!(matches!(idle_connections(&target, 2, 1).await, Err(BenchError::Connection { .. })));
        }
    }

    #[test]
    fn the_request_carries_its_own_length() {
        let length = u32::from_be_bytes(REQUEST[..4].try_into().unwrap()) as usize;
        assert_eq!(length, REQUEST.len() - 4);
    }
}
