//! What operators look at: health, metrics as a real Prometheus has them, the dashboard and the alerts.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::producer::{FutureProducer, FutureRecord};
use serde_json::Value;

use super::support::s3::Fault;
use super::support::{Broker, LONG, Services, blocking, client, create_topic, http, producer, send, yaks};

/// `yaks health`, for the agent that serves on this port.
fn health(admin: &str) -> (bool, String) {
    let port = admin.rsplit(':').next().expect("a port").to_owned();
    let output = yaks(0, &[("YAKS_METRICS_PORT".to_owned(), port)]).arg("health").output().expect("the binary");
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_is_ready_while_what_it_needs_is_there() {
    let services = Services::start().await;
    let broker = Broker::agent(&services, &[("YAKS_METRICS_PORT", "0")]);
    let admin = broker.admin_address();
    assert_eq!(http::get(&admin, "/livez").expect("an answer").status, 200);
    let admin = blocking(move || (http::until(&admin, "/readyz", |answer| answer.status == 200 && answer.body == "ok\n"), admin).1).await;
    assert_eq!(health(&admin), (true, String::new()));

    services.s3.faults.always(Fault::SlowDown);
    let admin = blocking(move || {
        http::until(&admin, "/readyz", |answer| answer.status == 503 && answer.body.contains("S3 answered with status 503"));
        assert_eq!(http::get(&admin, "/livez").expect("an answer").status, 200, "live, not ready");
        let (ready, why) = health(&admin);
        assert!(!ready && why.contains("not ready"), "{why}");
        admin
    })
    .await;
    services.s3.faults.heal();
    let admin = blocking(move || (http::until(&admin, "/readyz", |answer| answer.status == 200), admin).1).await;

    services.close_database().await;
    let admin = blocking(move || (http::until(&admin, "/readyz", |answer| answer.status == 503), admin).1).await;
    services.open_database().await;
    let admin = blocking(move || (http::until(&admin, "/readyz", |answer| answer.status == 200), admin).1).await;

    // The schema of a newer yaks does not stop those that run; one that lacks something does.
    services.run("INSERT INTO _sqlx_migrations VALUES (9999, 'of the future', now(), true, '', 0)").await;
    let admin = blocking(move || (http::until(&admin, "/readyz", |answer| answer.status == 200), admin).1).await;
    services.run("DELETE FROM _sqlx_migrations WHERE version IN (9999, 2)").await;
    let answer = http::get(&admin, "/readyz").expect("an answer");
    assert!(answer.status == 503 && answer.body.contains("lacks version 2"), "{answer:?}");
}

#[test]
fn health_without_an_agent_is_an_error() {
    let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
    let (healthy, why) = health(&free.to_string());
    assert!(!healthy && why.contains("no agent answers"), "{why}");
    let output = yaks(0, &[]).arg("health").output().expect("the binary");
    assert!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains("YAKS_OTEL_ENABLED"), "{output:?}");
}

/// A program of the Debian package `prometheus`, if it is there.
fn installed(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|directory| directory.join(program)).find(|file| file.is_file());
    if found.is_none() {
        eprintln!("SKIPPED: `{program}` is not installed (Debian: apt install prometheus)");
    }
    found
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn promtool(arguments: &[&str]) {
    let Some(promtool) = installed("promtool") else { return };
    let output = Command::new(promtool).current_dir(root()).args(arguments).output().expect("promtool");
    assert!(output.status.success(), "{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
}

#[test]
fn prometheus_takes_its_configuration_and_the_alerts() {
    promtool(&["check", "config", "prometheus/prometheus.yml"]);
    promtool(&["check", "rules", "prometheus/alerts.yml"]);
}

/// Each alert fires when it should and is silent in a healthy cluster.
#[test]
fn alerts_fire_for_what_they_are_for() {
    promtool(&["test", "rules", "prometheus/alerts_test.yml"]);
}

/// A Prometheus of its own; killed when dropped.
struct Prometheus {
    child: Child,
    address: String,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Prometheus {
    /// Scrapes `targets` every second and knows the alerts.
    fn start(program: &Path, directory: &Path, targets: &[String]) -> Prometheus {
        let config = format!(
            "global: {{scrape_interval: 2s, scrape_timeout: 2s, evaluation_interval: 2s}}\nrule_files: [{}]\n\
             scrape_configs: [{{job_name: yaks, static_configs: [{{targets: {targets:?}}}]}}]\n",
            root().join("prometheus/alerts.yml").display()
        );
        let file = directory.join("prometheus.yml");
        std::fs::write(&file, config).expect("written");
        // The port can be taken by somebody else between our looking and the server's: then look again.
        for _ in 0..5 {
            let address = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").to_string();
            let mut command = Command::new(program);
            command
                .arg(format!("--config.file={}", file.display()))
                .arg(format!("--storage.tsdb.path={}", directory.join("data").display()));
            command.arg(format!("--web.listen-address={address}")).arg("--log.level=error").stdout(Stdio::null());
            let mut prometheus = Prometheus { child: command.spawn().expect("prometheus"), address };
            let deadline = Instant::now() + LONG;
            while matches!(prometheus.child.try_wait(), Ok(None)) && Instant::now() < deadline {
                if http::get(&prometheus.address, "/-/ready").is_ok_and(|answer| answer.status == 200) {
                    return prometheus;
                }
                std::thread::park_timeout(Duration::from_millis(50));
            }
        }
        panic!("Prometheus did not start");
    }

    fn ask(&self, path: &str) -> Result<Value, String> {
        let answer = http::get(&self.address, path).map_err(|error| error.to_string())?;
        let value: Value = serde_json::from_str(&answer.body).map_err(|error| format!("{error}: {}", answer.body))?;
        if value["status"] == "success" { Ok(value["data"].clone()) } else { Err(value["error"].to_string()) }
    }

    /// Has the query had a value since `began`, in seconds of Unix time?
    fn had_data(&self, query: &str, began: u64) -> Result<bool, String> {
        let found = self.ask(&format!("/api/v1/query_range?query={}&start={began}&end={}&step=1", http::escaped(query), unix_time()))?;
        let series = found["result"].as_array().cloned().unwrap_or_default();
        let values = series.iter().flat_map(|one| one["values"].as_array().cloned().unwrap_or_default());
        Ok(values.filter_map(|pair| pair[1].as_str()?.parse::<f64>().ok()).any(f64::is_finite))
    }
}

fn unix_time() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

/// Every query of the dashboard, by its panel, as Grafana would send it.
fn dashboard_queries() -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(root().join("grafana/dashboards/yaks-cluster.json")).expect("the dashboard");
    let dashboard: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((&dashboard["uid"], &dashboard["title"]), (&"yaks-cluster".into(), &"Yaks Cluster".into()));
    let (mut row, mut queries) = (String::new(), BTreeMap::new());
    for panel in dashboard["panels"].as_array().expect("panels") {
        let title = panel["title"].as_str().expect("a title");
        if panel["type"] == "row" {
            title.clone_into(&mut row);
        }
        for target in panel["targets"].as_array().into_iter().flatten() {
            let query = target["expr"].as_str().expect("a query").replace("$__rate_interval", "15s").replace("$agent", ".*");
            assert!(!query.contains('$'), "{query} has a variable this test does not know");
            queries.insert(format!("{row} / {title} / {}", target["refId"].as_str().expect("an id")), query);
        }
    }
    queries
}

/// Everything a dashboard could want to show, until told to stop: produce and fetch, from memory and from S3, groups that come and go, and clients that
/// do wrong.
struct Load {
    stop: Arc<AtomicBool>,
    work: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    async fn start(brokers: &str, peer: String) -> Load {
        create_topic(brokers, "load", 4).await;
        let admin: AdminClient<DefaultClientContext> = client(brokers, &[]).create().expect("an admin client");
        let strict = NewTopic::new("strict", 1, TopicReplication::Fixed(1)).set("max.message.bytes", "200");
        admin.create_topics([&strict], &AdminOptions::new()).await.expect("an answer");
        let stop = Arc::new(AtomicBool::new(false));
        let work = vec![
            tokio::spawn(produce(brokers.to_owned(), Arc::clone(&stop))),
            spawn_blocking(brokers, &stop, consume),
            spawn_blocking(brokers, &stop, move |brokers, stop| misbehave(brokers, &peer, stop)),
        ];
        Load { stop, work }
    }

    async fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        for work in self.work {
            work.await.expect("no panic");
        }
    }
}

fn spawn_blocking(
    brokers: &str,
    stop: &Arc<AtomicBool>,
    work: impl FnOnce(&str, &AtomicBool) + Send + 'static,
) -> tokio::task::JoinHandle<()> {
    let (brokers, stop) = (brokers.to_owned(), Arc::clone(stop));
    tokio::task::spawn_blocking(move || work(&brokers, &stop))
}

async fn produce(brokers: String, stop: Arc<AtomicBool>) {
    let producer = producer(&brokers, &[("enable.idempotence", "true")]);
    let large = "x".repeat(50_000);
    while !stop.load(Ordering::Relaxed) {
        send(&producer, "load", 0, &large).await;
        send(&producer, "load", 1, "small").await;
        let too_large: FutureRecord<'_, (), str> = FutureRecord::to("strict").payload(&large);
        let _ = FutureProducer::send(&producer, too_large, LONG).await;
    }
}

/// Members of a group that read from the beginning, leave, and come again.
fn consume(brokers: &str, stop: &AtomicBool) {
    let mut round = 0;
    while !stop.load(Ordering::Relaxed) {
        round += 1;
        let group = format!("group-{}", round % 3);
        let settings = [("group.id", group.as_str()), ("auto.offset.reset", "earliest"), ("enable.auto.commit", "false")];
        let consumer: BaseConsumer = client(brokers, &settings).create().expect("a consumer");
        consumer.subscribe(&["load"]).expect("subscribed");
        let until = Instant::now() + Duration::from_secs(4);
        while Instant::now() < until && !stop.load(Ordering::Relaxed) {
            let _ = consumer.poll(Duration::from_millis(100));
        }
    }
}

/// Requests for an API that does not exist, and to the peer port without a signature.
fn misbehave(brokers: &str, peer: &str, stop: &AtomicBool) {
    use std::io::{Read as _, Write as _};
    let first = brokers.split(',').next().expect("a broker");
    while !stop.load(Ordering::Relaxed) {
        let mut stream = std::net::TcpStream::connect(first).expect("connected");
        stream.write_all(&[0, 0, 0, 10, 0x7f, 0xff, 0, 0, 0, 0, 0, 1, 0xff, 0xff]).expect("written");
        let _ = stream.read(&mut [0; 64]);
        assert_ne!(http::get(peer, "/").expect("an answer").status, 200);
        std::thread::park_timeout(Duration::from_millis(300));
    }
}

fn peer_address(agent: &Broker) -> String {
    let log = agent.log();
    let address = log.lines().find_map(|line| line.split_once("shared with peers on ")).map(|(_, rest)| rest.trim().to_owned());
    address.unwrap_or_else(|| panic!("no peers are served: {log}"))
}

/// Two agents under load, a real Prometheus: every query of the dashboard has data, every alert can be judged, and none is wrong.
#[tokio::test(flavor = "multi_thread")]
async fn every_query_of_the_dashboard_returns_data() {
    let Some(program) = installed("prometheus") else { return };
    let services = Services::start().await;
    // So little cache that reading from the beginning reads from S3.
    let settings = [
        ("YAKS_METRICS_PORT", "0"),
        ("YAKS_GROUPCACHE_CACHE_SIZE_MB", "1"),
        ("YAKS_GROUPCACHE_ENABLED", "true"),
        ("YAKS_GROUPCACHE_PORT", "0"),
        ("YAKS_GROUPCACHE_POLL_MS", "300"),
        ("YAKS_GROUP_INITIAL_REBALANCE_DELAY_MS", "100"),
    ];
    let agents = [Broker::agent(&services, &settings), Broker::agent(&services, &settings)];
    let directory = tempfile::tempdir().expect("a directory");
    let targets: Vec<String> = agents.iter().map(Broker::admin_address).collect();
    let began = unix_time();
    let prometheus = Prometheus::start(&program, directory.path(), &targets);
    let load = Load::start(&format!("{},{}", agents[0].address, agents[1].address), peer_address(&agents[0])).await;
    let prometheus = blocking(move || {
        every_query_has_data(&prometheus, began);
        every_alert_can_be_judged(&prometheus);
        prometheus
    })
    .await;
    load.end().await;
    drop(prometheus);
}

fn every_query_has_data(prometheus: &Prometheus, began: u64) {
    let mut missing = dashboard_queries();
    assert!(missing.len() > 60, "only {} queries", missing.len());
    let deadline = Instant::now() + LONG * 3;
    while !missing.is_empty() {
        missing.retain(|panel, query| !prometheus.had_data(query, began).unwrap_or_else(|error| panic!("{panel}: {query}: {error}")));
        assert!(Instant::now() < deadline || missing.is_empty(), "no data for {missing:#?}");
        std::thread::park_timeout(Duration::from_secs(1));
    }
}

fn every_alert_can_be_judged(prometheus: &Prometheus) {
    let rules = prometheus.ask("/api/v1/rules").expect("rules");
    let rules: Vec<Value> =
        rules["groups"].as_array().expect("groups").iter().flat_map(|g| g["rules"].as_array().cloned().unwrap_or_default()).collect();
    assert!(rules.len() >= 15, "{} alerts", rules.len());
    for rule in rules {
        assert_eq!(rule["health"], "ok", "{rule:#}");
        // Producers that are refused what they send are the one thing that is wrong here, and that is not an outage.
        let alarming = rule["state"] == "firing" && rule["labels"]["severity"] == "page";
        assert!(!alarming, "{rule:#}");
        prometheus
            .ask(&format!("/api/v1/query?query={}", http::escaped(rule["query"].as_str().expect("a query"))))
            .expect("a value or none");
    }
}
