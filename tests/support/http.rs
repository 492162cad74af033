//! The little HTTP that tests need: a GET, and asking until the answer is right.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(20);
const BETWEEN: Duration = Duration::from_millis(100);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpAnswer {
    pub status: u16,
    pub body: String,
}

/// One GET, without keeping the connection.
pub fn get(address: &str, path: &str) -> std::io::Result<HttpAnswer> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer.as_str(), ""));
    let status = head.split_whitespace().nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    Ok(HttpAnswer { status, body: body.to_owned() })
}

/// Asks until the answer is right.
pub fn until(address: &str, path: &str, right: impl Fn(&HttpAnswer) -> bool) -> HttpAnswer {
    let deadline = Instant::now() + 3 * PATIENCE;
    loop {
        let answer = get(address, path);
        match answer {
            Ok(answer) if right(&answer) => return answer,
            other => assert!(Instant::now() < deadline, "{address}{path} never answered as it should: {other:?}"),
        }
        std::thread::park_timeout(BETWEEN);
    }
}

/// For the value of a query's parameter.
pub fn escaped(text: &str) -> String {
    text.bytes().map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}
