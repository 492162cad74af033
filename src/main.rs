//! The daemon: read settings, start, wait for a signal, stop.

#[cfg(target_os = "linux")]
use std::alloc::{GlobalAlloc, Layout};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use mimalloc::MiMalloc;
use yaks::app::{self, App};
use yaks::config::{Config, Mode, help};

/// On Linux mimalloc stands in for `malloc` itself (its feature `override`), for C and Rust alike, and all this does is have it linked. As the allocator of
/// Rust it is told an alignment each time, and takes a longer way every third time: 2% of the CPU at 500 records/s.
#[cfg(target_os = "linux")]
#[used]
static MALLOC: unsafe fn(&MiMalloc, Layout) -> *mut u8 = <MiMalloc as GlobalAlloc>::alloc;

#[cfg(not(target_os = "linux"))]
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// How long blocking work may go on when everything else has ended.
const LAST_WORK: Duration = Duration::from_secs(2);

/// A stateless broker that speaks the Kafka protocol: records in S3, everything else in Postgres.
#[derive(Debug, Parser)]
#[command(version, after_help = "Point any Kafka client at port 9092. `yaks dev --help` and `yaks agent --help` list every setting.")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// One broker with nothing else to install: SQLite and a directory, durable across restarts.
    #[command(after_help = help(Mode::Dev))]
    Dev {
        /// Where everything is kept.
        #[arg(long, default_value = "./yaks-data")]
        data_dir: PathBuf,
    },
    /// One of any number of brokers on Postgres and S3.
    #[command(after_help = help(Mode::Agent))]
    Agent,
    /// Bring the schema in Postgres up to date, then end.
    #[command(after_help = help(Mode::Agent))]
    Migrate,
    /// Ask the agent on this machine whether it is ready: exit code 0 if so.
    #[command(after_help = help(Mode::Agent))]
    Health,
    /// Give the agents a new secret for each other, then end. The one before is accepted until the next rotation, so no agent needs a restart.
    #[command(after_help = help(Mode::Agent))]
    RotatePeerSecret,
}

fn main() -> ExitCode {
    let command = Arguments::parse().command;
    let (mode, data_dir) = match &command {
        Command::Dev { data_dir } => (Mode::Dev, Some(data_dir.clone())),
        Command::Agent | Command::Migrate | Command::Health | Command::RotatePeerSecret => (Mode::Agent, None),
    };
    let (config, warnings) = match Config::from_env(mode, data_dir) {
        Ok(read) => read,
        Err(error) => return app::complain(&error),
    };
    if let Err(error) = app::start_logging(&config.log) {
        return app::complain(&error);
    }
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(config.worker_threads).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return app::complain(&error),
    };
    let outcome = runtime.block_on(async {
        match command {
            Command::Dev { .. } | Command::Agent => Box::pin(App::run(config)).await,
            Command::Migrate => App::migrate(&config).await,
            Command::RotatePeerSecret => App::rotate_peer_secret(&config).await,
            Command::Health => app::ask_health(&config),
        }
    });
    // Work that blocks a thread cannot be stopped, and nobody waits for it any more.
    runtime.shutdown_timeout(LAST_WORK);
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => app::complain(&error),
    }
}
