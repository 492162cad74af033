//! Brokers as processes, in both ways of running, and a librdkafka client for tests.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{BorrowedMessage, Message as _};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::{Offset, TopicPartitionList};

#[path = "../support/http.rs"]
pub mod http;
#[path = "../support/postgres.rs"]
#[allow(dead_code, reason = "shared with the contract tests")]
pub mod postgres;
#[path = "../support/s3.rs"]
pub mod s3;

/// Longer than anything here should ever take: a test that waits so long has found a fault.
pub const LONG: Duration = Duration::from_mins(1);

/// A `yaks` process; killed when dropped.
pub struct Broker {
    child: Child,
    /// Copies what it says into its log.
    copying: Option<JoinHandle<()>>,
    pub address: String,
    log: PathBuf,
    command: Box<dyn Fn(u16) -> Command + Send + Sync>,
}

impl Broker {
    /// `yaks dev` on `data_dir`.
    pub fn dev(data_dir: &Path, settings: &[(&str, &str)]) -> Broker {
        let (data_dir, settings) = (data_dir.to_owned(), owned(settings));
        Broker::start(Box::new(move |port| {
            let mut command = yaks(port, &settings);
            command.arg("dev").arg("--data-dir").arg(&data_dir);
            command
        }))
    }

    /// `yaks agent` on these services.
    pub fn agent(services: &Services, settings: &[(&str, &str)]) -> Broker {
        let settings: Vec<_> = services.settings.iter().cloned().chain(owned(settings)).collect();
        Broker::start(Box::new(move |port| {
            let mut command = yaks(port, &settings);
            command.arg("agent");
            command
        }))
    }

    fn start(command: Box<dyn Fn(u16) -> Command + Send + Sync>) -> Broker {
        let log = tempfile::Builder::new().prefix("yaks-log").tempfile().expect("a log").into_temp_path().keep().expect("kept");
        let (child, copying, address) = spawn(command(0), &log);
        Broker { child, copying: Some(copying), address, log, command }
    }

    pub fn port(&self) -> u16 {
        self.address.rsplit(':').next().and_then(|p| p.parse().ok()).expect("a port")
    }

    /// Where metrics and health are, as the log says.
    pub fn admin_address(&self) -> String {
        let log = self.log();
        let address = log.lines().rev().find_map(|line| line.split_once("metrics=\"")?.1.split('"').next().map(str::to_owned));
        address.unwrap_or_else(|| panic!("no metrics are served: {log}"))
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.child.kill().expect("killed");
        self.wait();
    }

    /// SIGTERM, and the exit status.
    pub fn terminate(&mut self) -> ExitStatus {
        signal(self.pid(), "TERM");
        self.wait()
    }

    /// Waits until it ends by itself; then its log is whole.
    pub fn wait(&mut self) -> ExitStatus {
        let status = tokio::task::block_in_place(|| self.child.wait()).expect("reaped");
        self.copying.take().map(JoinHandle::join);
        status
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child")
    }

    /// Starts again on the same port, after a kill.
    pub fn restart(&mut self) {
        let (child, copying, _) = spawn((self.command)(self.port()), &self.log);
        (self.child, self.copying) = (child, Some(copying));
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<_> = log.lines().rev().take(60).collect();
            eprintln!("--- the end of the log of {}", self.address);
            tail.iter().rev().for_each(|line| eprintln!("{line}"));
        }
        // Where the logs of all processes are to be kept.
        if let Some(directory) = std::env::var_os("YAKS_TEST_LOGS") {
            let _ = std::fs::copy(&self.log, Path::new(&directory).join(format!("{}.log", self.port())));
        }
        let _ = std::fs::remove_file(&self.log);
    }
}

pub fn signal(pid: u32, name: &str) {
    let status = Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).status().expect("kill");
    assert!(status.success());
}

fn owned(settings: &[(&str, &str)]) -> Vec<(String, String)> {
    settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// The binary, or the one that `YAKS_TEST_BINARY` names, with nothing of this process's own settings, on a port of loopback.
pub fn yaks(port: u16, settings: &[(String, String)]) -> Command {
    let binary = std::env::var_os("YAKS_TEST_BINARY").unwrap_or_else(|| env!("CARGO_BIN_EXE_yaks").into());
    let mut command = Command::new(binary);
    std::env::vars().filter(|(name, _)| name.starts_with("YAKS_")).for_each(|(name, _)| {
        command.env_remove(name);
    });
    command.env("YAKS_BROKER_HOST", "127.0.0.1").env("YAKS_ADVERTISED_HOST", "127.0.0.1").env("YAKS_BROKER_PORT", port.to_string());
    command.envs(settings.iter().cloned()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Starts it, follows its log into a file, and waits until it says where it listens.
fn spawn(mut command: Command, log: &Path) -> (Child, JoinHandle<()>, String) {
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(log).expect("a log");
    let mut child = command.stderr(file.try_clone().expect("a log")).spawn().expect("the binary");
    let (said, heard) = mpsc::sync_channel(1);
    let lines = child.stdout.take().expect("piped");
    let copying = std::thread::spawn(move || {
        use std::io::Write as _;
        for line in BufReader::new(lines).lines().map_while(Result::ok) {
            let _ = writeln!(file, "{line}");
            if let Some((_, rest)) = line.split_once("is listening on ") {
                let address = rest.split_whitespace().next().unwrap_or_default().to_owned();
                let _ = said.try_send(address);
            }
        }
    });
    // In place: the S3 server and the balancer it may talk to are tasks of this runtime, and one that waits behind this worker is taken by no other.
    let Ok(address) = tokio::task::block_in_place(|| heard.recv_timeout(LONG)) else {
        let _ = child.kill();
        let _ = child.wait();
        panic!("yaks did not start:\n{}", std::fs::read_to_string(log).unwrap_or_default());
    };
    (child, copying, address)
}

/// A database of its own and an S3 server of its own: what agents share.
pub struct Services {
    pub s3: s3::S3Server,
    pub database: postgres::Database,
    pub settings: Vec<(String, String)>,
}

impl Services {
    pub async fn start() -> Services {
        let s3 = s3::S3Server::in_memory().await;
        let database = postgres::Server::find().await.create_database(None).await;
        let mut settings = vec![
            ("YAKS_S3_ENDPOINT".to_owned(), s3.endpoint.clone()),
            ("YAKS_S3_BUCKET".to_owned(), s3::BUCKET.to_owned()),
            ("YAKS_RUN_MIGRATIONS".to_owned(), "true".to_owned()),
            ("YAKS_FLUSH_INTERVAL_MS".to_owned(), "20".to_owned()),
        ];
        let server = &database.server;
        settings.extend([
            ("YAKS_DB_HOST".to_owned(), server.host.clone()),
            ("YAKS_DB_PORT".to_owned(), server.port.to_string()),
            ("YAKS_DB_USER".to_owned(), server.user.clone()),
            ("YAKS_DB_PASSWORD".to_owned(), server.password.clone()),
            ("YAKS_DB_NAME".to_owned(), database.name.clone()),
        ]);
        Services { s3, database, settings }
    }

    /// The database ends every connection and takes no new one, as a PostgreSQL that restarts; until [`Services::open_database`].
    pub async fn close_database(&self) {
        let name = &self.database.name;
        self.administer(&format!("ALTER DATABASE {name} WITH ALLOW_CONNECTIONS false")).await;
        self.administer(&format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")).await;
    }

    pub async fn open_database(&self) {
        self.administer(&format!("ALTER DATABASE {} WITH ALLOW_CONNECTIONS true", self.database.name)).await;
    }

    async fn administer(&self, statement: &str) {
        self.run_in(&self.database.server.database, statement).await;
    }

    /// Runs a statement in the agents' database.
    pub async fn run(&self, statement: &str) {
        self.run_in(&self.database.name, statement).await;
    }

    async fn run_in(&self, database: &str, statement: &str) {
        use sqlx::{ConnectOptions as _, Connection as _};
        let mut connection = self.database.server.options(database).connect().await.expect("the server takes connections");
        sqlx::raw_sql(sqlx::AssertSqlSafe(statement.to_owned())).execute(&mut connection).await.expect(statement);
        connection.close().await.expect("closed");
    }
}

/// What librdkafka is told in every test, and nothing more.
pub fn client(brokers: &str, settings: &[(&str, &str)]) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers);
    for (name, value) in settings {
        config.set(*name, *value);
    }
    config
}

pub fn producer(brokers: &str, settings: &[(&str, &str)]) -> FutureProducer {
    client(brokers, settings).create().expect("a producer")
}

pub async fn create_topic(brokers: &str, topic: &str, partitions: i32) {
    let admin: AdminClient<DefaultClientContext> = client(brokers, &[]).create().expect("an admin client");
    let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
    let results = admin.create_topics([&new], &AdminOptions::new()).await.expect("an answer");
    for result in results {
        result.expect("created");
    }
}

/// Sends one record and waits for its offset.
pub async fn send(producer: &FutureProducer, topic: &str, partition: i32, value: &str) -> (i32, i64) {
    let record: FutureRecord<'_, (), str> = FutureRecord::to(topic).partition(partition).payload(value);
    let delivery = producer.send(record, LONG).await.map_err(|(error, _)| error).expect("delivered");
    (delivery.partition, delivery.offset)
}

/// Reads a partition from an offset until `count` records have come: (offset, value).
pub fn read(brokers: &str, topic: &str, partition: i32, from: i64, count: usize) -> Vec<(i64, String)> {
    let mut read = Vec::new();
    read_each(brokers, topic, partition, from, count, |offset, value| read.push((offset, value)));
    read
}

/// As [`read`], telling of each as it comes.
pub fn read_each(brokers: &str, topic: &str, partition: i32, from: i64, count: usize, mut tell: impl FnMut(i64, String)) {
    let consumer: BaseConsumer =
        client(brokers, &[("group.id", "reader"), ("enable.auto.commit", "false"), ("enable.partition.eof", "false")])
            .create()
            .expect("a consumer");
    let mut assignment = TopicPartitionList::new();
    assignment.add_partition_offset(topic, partition, Offset::Offset(from)).expect("a partition");
    consumer.assign(&assignment).expect("assigned");
    let (mut told, deadline) = (0, Instant::now() + LONG);
    while told < count {
        assert!(Instant::now() < deadline, "only {told} of {count} records of {topic}-{partition} came");
        match consumer.poll(Duration::from_millis(200)) {
            Some(Ok(message)) => {
                let (offset, value) = text(&message);
                tell(offset, value);
                told += 1;
            }
            Some(Err(error)) => eprintln!("the consumer says {error}"),
            None => {}
        }
    }
}

fn text(message: &BorrowedMessage<'_>) -> (i64, String) {
    (message.offset(), String::from_utf8_lossy(message.payload().unwrap_or_default()).into_owned())
}

/// Low and high watermark.
pub fn watermarks(brokers: &str, topic: &str, partition: i32) -> (i64, i64) {
    let consumer: BaseConsumer = client(brokers, &[("group.id", "reader")]).create().expect("a consumer");
    consumer.fetch_watermarks(topic, partition, LONG).expect("watermarks")
}

/// Every value once, with its offsets, or a test fails with what is double or missing.
pub fn assert_exactly(read: &[(i64, String)], expected: &[String]) {
    let mut offsets: BTreeMap<&str, Vec<i64>> = BTreeMap::new();
    for (offset, value) in read {
        offsets.entry(value).or_default().push(*offset);
    }
    let double: Vec<_> = offsets.iter().filter(|(_, o)| o.len() > 1).collect();
    assert!(double.is_empty(), "twice in the log: {double:?}");
    let missing: Vec<_> = expected.iter().filter(|v| !offsets.contains_key(v.as_str())).collect();
    assert!(missing.is_empty(), "not in the log: {missing:?}");
}

pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("no panic")
}

/// A plain TCP balancer: each connection goes to the agent with the fewest, as nginx.conf has it; among equals in turn.
pub struct Balancer {
    pub port: u16,
    agents: Arc<Mutex<Vec<Behind>>>,
}

/// An agent behind a balancer.
#[derive(Clone)]
struct Behind {
    address: String,
    gets_connections: bool,
    /// One clone for each connection.
    open: Arc<()>,
}

impl Balancer {
    /// Connections are closed until there are agents.
    pub async fn start() -> Balancer {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let agents: Arc<Mutex<Vec<Behind>>> = Arc::default();
        let known = Arc::clone(&agents);
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let chosen = choose(&mut known.lock().expect("not poisoned"));
                let Some(Behind { address, open, .. }) = chosen else { continue };
                tokio::spawn(async move {
                    if let Ok(mut agent) = tokio::net::TcpStream::connect(address).await {
                        let _ = tokio::io::copy_bidirectional(&mut client, &mut agent).await;
                    }
                    drop(open);
                });
            }
        });
        Balancer { port, agents }
    }

    pub fn balance(&self, addresses: Vec<String>) {
        let mut agents = self.agents.lock().expect("not poisoned");
        agents.iter_mut().for_each(|agent| agent.gets_connections = addresses.contains(&agent.address));
        for address in addresses {
            if agents.iter().all(|agent| agent.address != address) {
                agents.push(Behind { address, gets_connections: true, open: Arc::default() });
            }
        }
    }
}

/// Who was chosen goes behind its equals.
fn choose(agents: &mut Vec<Behind>) -> Option<Behind> {
    let candidates = agents.iter().enumerate().filter(|(_, agent)| agent.gets_connections);
    let (index, _) = candidates.min_by_key(|(_, agent)| Arc::strong_count(&agent.open))?;
    let chosen = agents.remove(index);
    agents.push(chosen.clone());
    Some(chosen)
}
