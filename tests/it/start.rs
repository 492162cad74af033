//! Starting: what is said, what is waited for, what is refused.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader};
use std::os::unix::ffi::OsStrExt as _;
use std::process::Output;
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use super::support::s3::Fault;
use super::support::{Broker, LONG, Services, blocking, create_topic, producer, send, signal, yaks};

fn run(arguments: &[&str], settings: &[(&str, &str)]) -> Output {
    let settings: Vec<_> = settings.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    yaks(0, &settings).args(arguments).output().expect("the binary")
}

#[test]
fn help_lists_every_setting_with_its_default() {
    let help = String::from_utf8(run(&["agent", "--help"], &[]).stdout).expect("text");
    for setting in yaks::config::SETTINGS {
        let line = help.lines().find(|line| line.contains(&format!("YAKS_{} ", setting.name)));
        assert!(line.is_some_and(|line| line.contains(setting.what)), "{} is not in\n{help}", setting.name);
    }
}

#[test]
fn a_wrong_setting_is_one_line_that_names_the_variable() {
    let output = run(&["agent"], &[("YAKS_FLUSH_BYTES", "lots")]);
    assert!(!output.status.success());
    let error = String::from_utf8(output.stderr).expect("text");
    assert_eq!(error.lines().count(), 1, "{error}");
    assert!(error.contains("YAKS_FLUSH_BYTES") && error.contains("lots"), "{error}");
}

#[test]
fn an_unknown_setting_is_a_warning_with_the_nearest_name() {
    let dir = tempfile::tempdir().expect("a directory");
    let broker = Broker::dev(dir.path(), &[("YAKS_FLUSH_INTERVALL_MS", "3")]);
    assert!(broker.log().contains("did you mean YAKS_FLUSH_INTERVAL_MS"), "{}", broker.log());
}

#[test]
fn two_brokers_do_not_share_a_data_directory_or_a_port() {
    let dir = tempfile::tempdir().expect("a directory");
    let broker = Broker::dev(dir.path(), &[]);
    let second = run(&["dev", "--data-dir", &dir.path().to_string_lossy()], &[]);
    assert!(!second.status.success());
    let error = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(error.contains("another"), "{error}");
    let other = tempfile::tempdir().expect("a directory");
    let port = broker.port().to_string();
    let second = run(&["dev", "--data-dir", &other.path().to_string_lossy()], &[("YAKS_BROKER_PORT", &port)]);
    assert!(String::from_utf8_lossy(&second.stderr).contains("YAKS_BROKER_PORT"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_id_in_use_is_refused_and_free_ones_are_leased() {
    let services = Services::start().await;
    let _first = Broker::agent(&services, &[("YAKS_NODE_ID", "7")]);
    let settings: Vec<_> = services.settings.iter().cloned().chain([("YAKS_NODE_ID".to_owned(), "7".to_owned())]).collect();
    let second = yaks(0, &settings).arg("agent").output().expect("the binary");
    let error = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(!second.status.success() && error.contains("node id 7"), "{error}");
    let leased = Broker::agent(&services, &[]);
    assert!(leased.log().contains("node=0"), "{}", leased.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_without_a_schema_says_what_to_do() {
    let services = Services::start().await;
    let settings: Vec<_> = services.settings.iter().filter(|(name, _)| name != "YAKS_RUN_MIGRATIONS").cloned().collect();
    let output = yaks(0, &settings).arg("agent").output().expect("the binary");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && error.contains("yaks migrate"), "{error}");
    assert!(yaks(0, &settings).arg("migrate").status().expect("the binary").success());
    let with_schema: Vec<(&str, &str)> = vec![("YAKS_RUN_MIGRATIONS", "false")];
    let broker = Broker::agent(&services, &with_schema);
    create_topic(&broker.address, "t", 1).await;
    assert_eq!(send(&producer(&broker.address, &[]), "t", 0, "hello").await, (0, 0));
}

/// Postgres and S3 that come up after the agent are waited for, and the log says for what.
#[tokio::test(flavor = "multi_thread")]
async fn late_services_are_waited_for() {
    let services = Services::start().await;
    services.close_database().await;
    services.s3.faults.always(Fault::SlowDown);
    let mut agent = yaks(0, &services.settings).arg("agent").spawn().expect("the binary");
    let lines = BufReader::new(agent.stdout.take().expect("piped")).lines();
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| drop(tell.send(line))));
    let told = Arc::new(Mutex::new(told));
    let says = |what: &'static str, words: &'static str| {
        let told = Arc::clone(&told);
        blocking(move || {
            let told = told.lock().expect("not poisoned");
            loop {
                let line = told.recv_timeout(LONG).unwrap_or_else(|_| panic!("it does not say of {what}: {words}"));
                if line.contains(what) && line.contains(words) {
                    return line;
                }
            }
        })
    };
    says("Postgres", "does not answer yet").await;
    services.open_database().await;
    says("Postgres", " answers").await;
    says("S3", "does not answer yet").await;
    services.s3.faults.heal();
    says("S3", " answers").await;
    let started = says("yaks", "is listening on ").await;
    let (_, rest) = started.split_once("is listening on ").expect("it says where");
    let address = rest.split_whitespace().next().expect("an address");
    create_topic(address, "t", 1).await;
    assert_eq!(send(&producer(address, &[]), "t", 0, "hello").await, (0, 0));
    signal(agent.id(), "TERM");
    let status = blocking(move || agent.wait().expect("reaped")).await;
    assert!(status.success(), "{status}");
}

/// An orchestrator that changes its mind must not have to wait for the minute, or to kill.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_waits_can_be_told_to_stop() {
    let services = Services::start().await;
    services.close_database().await;
    let mut agent = yaks(0, &services.settings).arg("agent").spawn().expect("the binary");
    let lines = BufReader::new(agent.stdout.take().expect("piped")).lines();
    let waits = lines.map_while(Result::ok).any(|line| line.contains("does not answer yet"));
    assert!(waits, "it ended by itself");
    let told = Instant::now();
    signal(agent.id(), "TERM");
    let status = blocking(move || agent.wait().expect("reaped")).await;
    assert!(status.success() && told.elapsed() < Duration::from_secs(30), "{status} after {:?}", told.elapsed());
}

#[test]
fn an_environment_that_is_no_text_is_no_panic() {
    let garbage = OsStr::from_bytes(b"\xff\xfe");
    let mut foreign = yaks(0, &[("YAKS_FLUSH_BYTES".to_owned(), "lots".to_owned())]);
    let output = foreign.arg("agent").env("SOMETHING_ELSE", garbage).output().expect("the binary");
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("yaks: YAKS_FLUSH_BYTES="), "{output:?}");
    let output = yaks(0, &[]).arg("agent").env("YAKS_RACK", garbage).output().expect("the binary");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.starts_with("yaks: YAKS_RACK=") && error.lines().count() == 1, "{error}");
}

/// Clients know a broker by its id: one that comes back after a kill must not look like another.
#[test]
fn a_killed_broker_comes_back_under_its_id() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut broker = Broker::dev(dir.path(), &[]);
    broker.kill();
    broker.restart();
    let log = broker.log();
    assert_eq!(log.matches(" node=0 ").count(), 2, "{log}");
}

/// The services of a test are tasks beside it: a broker that it starts, and waits for, must find them running.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_agent_that_a_task_starts_finds_its_services() {
    let started = tokio::spawn(async {
        let services = Services::start().await;
        let mut agent = Broker::agent(&services, &[]);
        create_topic(&agent.address, "t", 1).await;
        agent.terminate()
    });
    assert!(started.await.expect("no panic").success());
}
