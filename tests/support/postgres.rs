//! A PostgreSQL server for tests, and fresh databases in it.
//!
//! The server is, in this order: the one that `YAKS_TEST_POSTGRES_URL` names; one started from an installation on this machine, in a
//! directory of its own; one in Docker. It is started once a test process and goes away with it, also when a test panics
//! or the process is killed: a shell that reads from a pipe of ours notices that we are gone and cleans up.
//!
//! A plain module file: included with `#[path]` by the library's contract tests and by integration tests.

use std::io::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _};
use tokio::sync::Semaphore;

const URL_VARIABLE: &str = "YAKS_TEST_POSTGRES_URL";
/// `on` for benchmarks of a server that is started here.
const FSYNC_VARIABLE: &str = "YAKS_TEST_POSTGRES_FSYNC";
const WHAT_TO_INSTALL: &str = "tests need a PostgreSQL server: set YAKS_TEST_POSTGRES_URL (postgres://user:password@host:port/database), \
     or install PostgreSQL 14 or later (Debian: apt install postgresql; macOS: brew install postgresql), or start Docker";

/// Where the server is and who may create databases there.
#[derive(Debug, Clone)]
pub struct Server {
    pub host: String,
    pub port: u16,
    pub user: String,
    pub password: String,
    /// A database that is there already.
    pub database: String,
}

/// A database of its own for one test; dropped at the end.
#[derive(Debug)]
pub struct Database {
    pub server: Server,
    pub name: String,
}

impl Server {
    /// The server of this test process.
    pub async fn find() -> Server {
        static SERVER: tokio::sync::OnceCell<Server> = tokio::sync::OnceCell::const_new();
        SERVER.get_or_init(start).await.clone()
    }

    /// Makes a database, empty or a copy of `template`, to which nobody may be connected.
    pub async fn create_database(&self, template: Option<&str>) -> Database {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("yaks_test_{}_{number}", std::process::id());
        let mut connection = self.options(&self.database).connect().await.expect("the server takes connections");
        let template = template.unwrap_or("template0");
        let create = format!("CREATE DATABASE {name} TEMPLATE {template}");
        sqlx::raw_sql(AssertSqlSafe(create)).execute(&mut connection).await.expect("a database can be created");
        connection.close().await.expect("closed");
        Database { server: self.clone(), name }
    }

    pub fn options(&self, database: &str) -> PgConnectOptions {
        let options = PgConnectOptions::new_without_pgpass().host(&self.host).port(self.port).username(&self.user).database(database);
        options.password(&self.password)
    }

    /// Stops the server with a signal (`INT`: it ends its sessions; `QUIT`: it ends at once and recovers when it starts) and starts it again. Returns when it answers;
    /// false, and nothing happens, where the server was not started here.
    #[allow(dead_code, reason = "only the cluster tests need it")]
    pub async fn restart(&self, signal: &str) -> bool {
        // A server that has only just been started ignores signals: the one before must answer again first.
        let _turn = RESTART.acquire().await.expect("never closed");
        let before = loop {
            match self.started_at().await {
                Some(at) => break at,
                None => tokio::time::timeout(Duration::from_millis(50), std::future::pending::<()>()).await.unwrap_or_default(),
            }
        };
        match WATCHMAN_INPUT.lock().expect("not poisoned").as_mut() {
            Some(input) => writeln!(input, "{signal}").expect("the watchman lives"),
            None => return false,
        }
        loop {
            if self.started_at().await.is_some_and(|now| now != before) {
                return true;
            }
            tokio::time::timeout(Duration::from_millis(50), std::future::pending::<()>()).await.ok();
        }
    }

    #[allow(dead_code, reason = "only the cluster tests need it")]
    async fn started_at(&self) -> Option<String> {
        let options = self.options(&self.database);
        let mut connection = tokio::time::timeout(Duration::from_secs(2), options.connect()).await.ok()?.ok()?;
        let asked = sqlx::query_scalar("SELECT pg_postmaster_start_time()::text").fetch_one(&mut connection).await.ok();
        connection.close().await.ok();
        asked
    }

    async fn answers(&self) -> bool {
        let options = self.options(&self.database);
        match tokio::time::timeout(Duration::from_secs(2), options.connect()).await {
            Ok(Ok(connection)) => connection.close().await.is_ok(),
            Ok(Err(_)) | Err(_) => false,
        }
    }
}

impl Database {
    pub fn options(&self) -> PgConnectOptions {
        self.server.options(&self.name)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let (options, name) = (self.server.options(&self.server.database), self.name.clone());
        // On a thread and a runtime of its own: the test's may be going down.
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let mut connection = options.connect().await.map_err(std::io::Error::other)?;
                let drop = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
                sqlx::raw_sql(AssertSqlSafe(drop)).execute(&mut connection).await.map_err(std::io::Error::other)
            })
        });
        if !matches!(dropping.join(), Ok(Ok(_))) {
            eprintln!("the test database {} was left behind", self.name);
        }
    }
}

async fn start() -> Server {
    if let Ok(url) = std::env::var(URL_VARIABLE) {
        let server = parse_url(&url).unwrap_or_else(|| panic!("{URL_VARIABLE} is not postgres://user:password@host:port/database"));
        assert!(server.answers().await, "the server that {URL_VARIABLE} names does not answer");
        return server;
    }
    if let Some(programs) = find_installation() {
        return start_installation(&programs).await;
    }
    match start_container().await {
        Ok(server) => server,
        Err(error) => panic!("{WHAT_TO_INSTALL}\n({error})"),
    }
}

fn parse_url(url: &str) -> Option<Server> {
    let rest = url.strip_prefix("postgres://").or_else(|| url.strip_prefix("postgresql://"))?;
    let (who, place) = rest.rsplit_once('@')?;
    let (user, password) = who.split_once(':').unwrap_or((who, ""));
    let (address, database) = place.split_once('/')?;
    let (host, port) = address.rsplit_once(':').unwrap_or((address, "5432"));
    let database = database.split('?').next()?.to_owned();
    Some(Server { host: host.to_owned(), port: port.parse().ok()?, user: user.to_owned(), password: password.to_owned(), database })
}

/// The directory with `initdb` and `postgres`: from the search path, or where packages put them; the newest of several.
fn find_installation() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut candidates: Vec<PathBuf> = std::env::split_paths(&path).collect();
    for (parent, bin) in [
        ("/usr/lib/postgresql", "bin"),
        ("/usr/pgsql", "bin"),
        ("/opt/homebrew/opt", "bin"),
        ("/usr/local/opt", "bin"),
        ("/Library/PostgreSQL", "bin"),
        ("/Applications/Postgres.app/Contents/Versions", "bin"),
    ] {
        let versions = std::fs::read_dir(parent).into_iter().flatten().flatten();
        let mut versions: Vec<PathBuf> = versions.map(|entry| entry.path().join(bin)).collect();
        versions.sort();
        candidates.extend(versions.into_iter().rev());
    }
    candidates.into_iter().find(|directory| directory.join("initdb").is_file() && directory.join("postgres").is_file())
}

/// Arguments: directory of programs, port, whether to wait for the disk. Each line of its standard input is a signal with which the server is restarted.
/// Ends, and cleans up, when its standard input ends: when the test process does.
const WATCHMAN: &str = r#"
trap '' INT TERM HUP
directory=$(mktemp -d /tmp/yaks-test-postgres.XXXXXX) || exit 1
cd "$directory"
"$1/initdb" -D data -U yaks -A trust -E UTF8 --locale=C --no-sync >log 2>&1 || { cat log >&2; cd /; rm -rf "$directory"; exit 1; }
start() {
  "$1/postgres" -D data -h 127.0.0.1 -p "$2" -k "$directory" -c max_connections=300 -c "fsync=$3" -c "full_page_writes=$3" >>log 2>&1 &
  server=$!
}
start "$@"
while read -r signal; do
  kill "-$signal" $server
  wait $server
  start "$@"
done
kill -QUIT $server
wait $server
cd /
rm -rf "$directory"
"#;

static WATCHMAN_INPUT: Mutex<Option<ChildStdin>> = Mutex::new(None);
/// One restart at a time: tests share the server.
static RESTART: Semaphore = Semaphore::const_new(1);

#[allow(clippy::zombie_processes, reason = "the watchman outlives us on purpose")]
async fn start_installation(programs: &Path) -> Server {
    // The port can be taken by somebody else between our looking and the server's: then look again.
    for _ in 0..5 {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port();
        let mut watchman = watch(programs, port);
        let server = Server {
            host: "127.0.0.1".to_owned(),
            port,
            user: "yaks".to_owned(),
            password: String::new(),
            database: "postgres".to_owned(),
        };
        for _ in 0..2_000 {
            if server.answers().await {
                // Its standard input stays open as long as this process lives.
                *WATCHMAN_INPUT.lock().expect("not poisoned") = watchman.stdin.take();
                return server;
            }
            if !matches!(watchman.try_wait(), Ok(None)) {
                break;
            }
            tokio::time::timeout(Duration::from_millis(50), std::future::pending::<()>()).await.ok();
        }
    }
    panic!("PostgreSQL in {} did not start", programs.display())
}

fn watch(programs: &Path, port: u16) -> Child {
    let is_root = Command::new("id").arg("-u").output().is_ok_and(|id| id.stdout == b"0\n");
    // PostgreSQL refuses to run as root.
    let mut command = Command::new(if is_root { "runuser" } else { "sh" });
    if is_root {
        command.args(["-u", "postgres", "--", "sh"]);
    }
    // A test database need not survive the loss of power; a benchmark says otherwise.
    let fsync = std::env::var(FSYNC_VARIABLE).unwrap_or_else(|_| "off".to_owned());
    command.args(["-c", WATCHMAN, "watchman"]).arg(programs).arg(port.to_string()).arg(fsync);
    command.current_dir("/").stdin(Stdio::piped()).stdout(Stdio::null());
    // A group of its own: an interrupt typed at the terminal is for the tests alone.
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    command.spawn().unwrap_or_else(|e| panic!("cannot run {command:?}: {e}"))
}

async fn start_container() -> Result<Server, String> {
    use testcontainers_modules::postgres::Postgres;
    use testcontainers_modules::testcontainers::ImageExt as _;
    use testcontainers_modules::testcontainers::runners::AsyncRunner as _;

    let container = Postgres::default().with_tag("16-alpine").start().await.map_err(|e| e.to_string())?;
    let host = container.get_host().await.map_err(|e| e.to_string())?.to_string();
    let port = container.get_host_port_ipv4(5432).await.map_err(|e| e.to_string())?;
    let remove = ["-c", "trap '' INT TERM HUP; cat >/dev/null; docker rm -fv \"$1\"", "watchman", container.id()];
    let mut watchman = Command::new("sh");
    watchman.args(remove).stdin(Stdio::piped()).stdout(Stdio::null());
    std::os::unix::process::CommandExt::process_group(&mut watchman, 0);
    let mut watchman = watchman.spawn().map_err(|e| e.to_string())?;
    std::mem::forget(watchman.stdin.take());
    // The watchman removes it; dropping it here would, now.
    std::mem::forget(container);
    let (user, database) = ("postgres".to_owned(), "postgres".to_owned());
    Ok(Server { host, port, user: user.clone(), password: user, database })
}
