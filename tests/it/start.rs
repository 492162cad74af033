//! Starting: what is said, what is waited for, what is refused.

use std::process::Output;

use super::support::{Broker, Services, create_topic, producer, send, yaks};

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
