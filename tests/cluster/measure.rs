//! What agents and services did: CPU from /proc, figures from /metrics, statements from PostgreSQL's own log.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::time::Duration;

use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _};

use super::support::{Broker, Services};

/// Ticks of `/proc/PID/stat` in a second: what Linux shows to programs everywhere.
const TICKS: u64 = 100;

/// Processor time the agent has used.
pub fn cpu(agent: &Broker) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", agent.pid())).expect("a process");
    let (_, after_name) = stat.rsplit_once(") ").expect("a name in brackets");
    let fields: Vec<&str> = after_name.split(' ').collect();
    let ticks = |field: usize| fields[field].parse::<u64>().expect("ticks");
    // utime and stime are fields 14 and 15; the name is field 2.
    Duration::from_millis((ticks(11) + ticks(12)) * 1_000 / TICKS)
}

/// The sum of one metric over its labels.
pub fn metric(agent: &Broker, name: &str) -> f64 {
    let log = agent.log();
    let started = log.lines().rev().find(|line| line.contains("is listening on")).expect("it has started");
    let address = started.split_once("metrics=").and_then(|(_, rest)| rest.split_whitespace().next()).expect("an address of metrics");
    let mut connection = std::net::TcpStream::connect(address.trim_matches('"')).expect("the admin port");
    connection.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").expect("a request");
    let mut text = String::new();
    connection.read_to_string(&mut text).expect("an answer");
    let of_name = text.lines().filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])));
    of_name.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

/// From now on PostgreSQL logs every statement of new connections.
pub async fn log_statements(services: &Services) {
    let statement = format!("ALTER DATABASE {} SET log_statement = 'all'", services.database.name);
    let mut connection = services.database.options().connect().await.expect("a connection");
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await.expect("a superuser");
    connection.close().await.expect("closed");
}

/// Statements logged since the log was `from` bytes long, by text, and how long the log is now.
pub async fn statements(services: &Services, from: i64) -> (BTreeMap<String, u64>, i64) {
    let mut connection = services.database.server.options(&services.database.server.database).connect().await.expect("a connection");
    let log = "current_setting('data_directory') || '/../log'";
    let query = format!("SELECT length(pg_read_binary_file({log})), pg_read_file({log}, {from}, 1000000000)");
    let (length, text): (i32, String) =
        sqlx::query_as(AssertSqlSafe(query)).fetch_one(&mut connection).await.expect("the log of the server");
    connection.close().await.expect("closed");
    let mut counts = BTreeMap::new();
    for line in text.lines().filter(|line| line.contains("LOG:  execute") || line.contains("LOG:  statement")) {
        let (_, statement) = line.split_once("LOG:  ").unwrap_or_default();
        let (_, text) = statement.split_once(": ").unwrap_or_default();
        *counts.entry(text.chars().take(100).collect()).or_default() += 1;
    }
    (counts, i64::from(length))
}
