//! Asking the agent on this machine how it is: for health checks in images that hold nothing but this binary.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use super::StartError;
use crate::config::Config;

/// Longer than a readiness check takes.
const PATIENCE: Duration = Duration::from_secs(6);
/// Of an answer no more is looked at.
const ANSWER: u64 = 64 << 10;

/// Asks for `/readyz`, on the address and port that the settings name.
///
/// # Errors
/// What the agent lacks, or why it could not be asked.
pub fn ask_health(config: &Config) -> Result<(), StartError> {
    let Some(port) = config.metrics_port else {
        return Err(StartError::Failed("health is not served: set YAKS_OTEL_ENABLED=true or YAKS_METRICS_PORT".to_owned()));
    };
    let answer = ask(&config.broker_host, port).map_err(|error| StartError::Failed(format!("no agent answers on port {port}: {error}")))?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer.as_str(), ""));
    let is_ready = head.split_whitespace().nth(1) == Some("200");
    if is_ready { Ok(()) } else { Err(StartError::Failed(format!("the agent is not ready: {}", body.trim()))) }
}

fn ask(host: &str, port: u16) -> std::io::Result<String> {
    // Who listens everywhere listens here too.
    let listens_everywhere = host.parse::<IpAddr>().is_ok_and(|address| address.is_unspecified());
    let host = if listens_everywhere { Ipv4Addr::LOCALHOST.to_string() } else { host.to_owned() };
    let address = (host.as_str(), port).to_socket_addrs()?.next().ok_or(std::io::ErrorKind::AddrNotAvailable)?;
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET /readyz HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(ANSWER).read_to_string(&mut answer)?;
    Ok(answer)
}
