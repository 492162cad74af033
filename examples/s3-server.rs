//! An S3 server for benchmarks, and for people without Docker. It is no safe place for data.
//!
//! `cargo run --release --example s3-server -- --port 4566 --dir /tmp/s3 --delay-ms 30`
//!
//! Prints its endpoint, then serves until it is interrupted.

#[path = "../tests/support/s3.rs"]
mod s3;

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(about = "An S3 server for benchmarks: bucket test-bucket, keys test and test")]
struct Options {
    /// Port on 127.0.0.1; 0 takes a free one.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Where the objects are kept; without it in memory.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// How long every answer waits first, in milliseconds.
    #[arg(long, default_value_t = 0)]
    delay_ms: u64,
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let options = Options::parse();
    let listen = SocketAddr::from(([127, 0, 0, 1], options.port));
    let server = match &options.dir {
        Some(dir) => s3::S3Server::in_directory(dir, listen).await?,
        None => s3::S3Server::serve_memory(listen).await?,
    };
    server.faults.delay(Duration::from_millis(options.delay_ms));
    println!("{}", server.endpoint);
    std::io::stdout().flush()?;
    tokio::signal::ctrl_c().await
}
