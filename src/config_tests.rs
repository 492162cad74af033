use super::*;

fn read(mode: Mode, set: &[(&str, &str)]) -> Result<(Config, Vec<String>), ConfigError> {
    let set = set.iter().map(|(name, value)| (name.to_lowercase(), (*value).to_owned())).collect();
    Config::from_settings(mode, None, &set)
}

#[test]
fn defaults_are_those_of_the_ancestor() {
    let (config, warnings) = read(Mode::Agent, &[]).expect("defaults");
    assert!(warnings.is_empty());
    assert_eq!((config.broker_port, config.advertised_port, config.metrics_port), (9092, 0, None));
    assert_eq!(config.buffer.flush_interval, Duration::from_millis(250));
    assert_eq!(config.buffer.flush_bytes, 5_242_880);
    assert_eq!(config.materialize.batch_size, 1000);
    assert_eq!(config.fetch.max_bytes, 52_428_800);
    let Backends::Shared { db, s3 } = config.backends else { panic!("an agent shares") };
    assert_eq!((db.user.as_str(), db.name.as_str(), s3.bucket.as_str()), ("testuser", "testdb", "test-bucket"));
    assert_eq!(s3.endpoint, "http://localhost:4566");
}

#[test]
fn dev_writes_at_once_and_keeps_everything_in_a_directory() {
    let (config, _) = read(Mode::Dev, &[]).expect("defaults");
    assert_eq!(config.buffer.flush_interval, Duration::ZERO);
    assert!(matches!(config.backends, Backends::Local { .. }));
}

#[test]
fn dev_leaves_half_of_the_machine_to_its_clients() {
    let threads = |mode, set: &[(&str, &str)]| read(mode, set).expect("usable").0.worker_threads;
    assert_eq!(threads(Mode::Dev, &[]), threads(Mode::Agent, &[]).div_ceil(2));
    assert_eq!(threads(Mode::Dev, &[("WORKER_THREADS", "3")]), 3);
}

#[test]
fn a_wrong_value_is_one_line_that_names_the_variable() {
    for (name, value) in [
        ("BROKER_PORT", "kafka"),
        ("BROKER_PORT", "70000"),
        ("FLUSH_INTERVAL_MS", "-1"),
        ("FLUSH_BYTES", "5MB"),
        ("RUN_MIGRATIONS", "maybe"),
        ("NODE_ID", "-3"),
        ("DB_SSLMODE", "sometimes"),
        ("PRODUCE_OFFSETS", "never"),
        ("DEFAULT_PARTITIONS", "0"),
        ("GROUPCACHE_HEARTBEAT_MS", "20000"),
        ("DB_HOST", " "),
        ("RACK_CIDRS", "10.1.0.0/16=a,10.1.0.1/16=b"),
    ] {
        let error = read(Mode::Agent, &[(name, value)]).expect_err(name).to_string();
        assert!(error.contains(&format!("YAKS_{name}=")) && error.contains(value) && !error.contains('\n'), "{error}");
    }
}

#[test]
fn an_unknown_name_is_a_warning_with_the_nearest_one() {
    let (_, warnings) = read(Mode::Agent, &[("FLUSH_INTERVALL_MS", "3")]).expect("usable");
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].contains("YAKS_FLUSH_INTERVAL_MS"), "{warnings:?}");
}

#[test]
fn a_metrics_port_is_served_when_asked_for() {
    assert_eq!(read(Mode::Dev, &[("OTEL_ENABLED", "true")]).expect("usable").0.metrics_port, Some(9090));
    assert_eq!(read(Mode::Dev, &[("METRICS_PORT", "0")]).expect("usable").0.metrics_port, Some(0));
}

#[test]
fn peers_and_racks_are_read() {
    let set = [("GROUPCACHE_ENABLED", "true"), ("GROUPCACHE_ADVERTISED_HOST", "here"), ("RACK_CIDRS", "10.1.0.0/16=a")];
    let (config, warnings) = read(Mode::Agent, &set).expect("usable");
    assert_eq!((config.peers.enabled, config.peers.port, config.peers.advertised_host.as_deref()), (true, 9080, Some("here")));
    assert_eq!(config.rack_cidrs.rack_of([10, 1, 2, 3].into()), Some("a"));
    assert!(warnings.is_empty(), "{warnings:?}");
}
