//! The house rules, as a test: who may import whom, which foreign crates live where, which files are pure, and that documents and code
//! name the same things.

#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Which rooms a room may import besides itself. Layers go upwards; the rooms of one layer do not know each other.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("types", &[]),
    ("clock", &["types"]),
    ("records", &["types"]),
    ("partition", &["types"]),
    ("metrics", &["types"]),
    ("traces", &["metrics", "tasks"]),
    ("budget", &[]),
    ("tasks", &["clock"]),
    ("store", &["types", "clock", "records", "partition", "metrics", "tasks"]),
    ("metastore", &["types", "clock", "records", "partition", "metrics", "tasks"]),
    ("cache", &["types", "clock", "records", "partition", "metrics", "tasks", "store", "metastore"]),
    ("produce", &["types", "clock", "records", "partition", "metrics", "traces", "tasks", "store", "metastore"]),
    ("materialize", &["types", "clock", "records", "partition", "metrics", "tasks", "store", "metastore"]),
    ("fetch", &["types", "clock", "records", "partition", "metrics", "tasks", "store", "metastore"]),
    ("group", &["types", "clock", "records", "metrics", "tasks", "metastore"]),
    ("upkeep", &["types", "clock", "records", "partition", "metrics", "tasks", "store", "metastore"]),
    ("protocol", &["types", "records"]),
    (
        "handlers",
        &["types", "clock", "records", "partition", "metrics", "tasks", "metastore", "produce", "fetch", "group", "protocol", "budget"],
    ),
    ("server", &["types", "metrics", "traces", "tasks", "handlers", "protocol", "budget"]),
    ("admin", &["cache", "tasks", "metrics"]),
    ("config", &["types"]),
    ("oracle", &["types", "clock"]),
    ("bench", &["types", "clock", "oracle"]),
];

/// Foreign crates that only these rooms or files may name.
const FENCED: &[(&str, &[&str])] = &[
    ("rand", &["clock"]),
    ("crc32c", &["records", "store/s3", "cache/wire"]),
    ("flate2", &["records"]),
    ("lz4_flex", &["records"]),
    ("snap", &["records"]),
    ("zstd", &["records"]),
    ("opentelemetry", &["metrics", "traces"]),
    ("opentelemetry_sdk", &["metrics", "traces"]),
    ("opentelemetry_prometheus", &["metrics"]),
    ("opentelemetry_otlp", &["traces"]),
    ("prometheus", &["metrics"]),
    ("aws_sdk_s3", &["store/s3"]),
    ("aws_config", &["store/s3"]),
    ("sqlx", &["metastore/postgres", "metastore/sqlite", "oracle/journal"]),
    ("moka", &["cache/entries"]),
    ("hmac", &["cache/wire"]),
    ("sha2", &["cache/wire"]),
    ("hyper", &["cache/http", "admin"]),
    ("hyper_util", &["cache/http", "admin"]),
    ("http_body_util", &["cache/http", "admin"]),
    ("kafka_protocol", &["protocol", "handlers"]),
    ("axum", &["admin"]),
    ("envy", &["config"]),
    ("rustix", &["app/files", "store/local"]),
    ("rdkafka", &["oracle", "bench", "bin"]),
    ("mimalloc", &["main"]),
];

/// Files without I/O, clocks, randomness or waiting.
const PURE: &[&str] = &[
    "types.rs",
    "records/",
    "partition/",
    "produce/buffer.rs",
    "fetch/plan.rs",
    "fetch/assemble.rs",
    "group/classic/",
    "group/consumer/",
    "group/effect.rs",
    "group/event.rs",
    "group/state.rs",
    "group/subscription.rs",
    "group/turns.rs",
    "group/wire.rs",
    "cache/pages.rs",
    "cache/ring.rs",
    "cache/wire.rs",
    "protocol/frame.rs",
    "protocol/versions.rs",
    "oracle/check.rs",
];
const IMPURE_WORDS: &[&str] = &["async fn", ".await", "tokio::", "SystemTime", "Instant::now", "std::fs", "std::net", "rand::"];

/// Only tests and the wiring may name the doubles.
const DOUBLES: &[&str] = &["store::flaky", "metastore::flaky", "store::memory", "metastore::memory"];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every source file below `folder`, with its path relative to `src`.
fn sources() -> Vec<(String, String)> {
    let mut files = Vec::new();
    let mut folders = vec![root().join("src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder").map(|e| e.expect("an entry").path()) {
            if entry.is_dir() {
                folders.push(entry);
            } else if entry.extension().is_some_and(|e| e == "rs") {
                let name = entry.strip_prefix(root().join("src")).expect("below src").to_string_lossy().into_owned();
                files.push((name, std::fs::read_to_string(&entry).expect("text")));
            }
        }
    }
    files.sort();
    files
}

fn is_test_file(name: &str) -> bool {
    name.ends_with("_tests.rs")
        || name.ends_with("/tests.rs")
        || name.ends_with("/figures.rs")
        || name.contains("/tests/")
        || name.contains("contract")
}

/// The file without comments, and without what follows its `#[cfg(test)]`.
fn code(text: &str) -> String {
    let body = text.split("#[cfg(test)]\nmod tests").next().unwrap_or(text);
    body.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

fn room(name: &str) -> &str {
    name.split(['/', '.']).next().unwrap_or(name)
}

/// The first path segments after each `crate::`, also inside braces.
fn imports(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        // `$crate` and `yaks_crate::` are something else.
        if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let rest = &code[at + "crate::".len()..];
        let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
        match rest.strip_prefix('{') {
            Some(list) => found.extend(list.split('}').next().unwrap_or("").split(',').map(|item| word(item.trim()))),
            None => {
                found.insert(word(rest));
            }
        }
    }
    found.remove("");
    found
}

#[test]
fn rooms_import_only_what_the_table_allows() {
    let table: BTreeMap<_, _> = MAY_IMPORT.iter().copied().collect();
    let mut slips = Vec::new();
    for (name, text) in sources() {
        let room = room(&name);
        if ["main", "lib", "app", "bin"].contains(&room) || is_test_file(&name) {
            continue;
        }
        let Some(allowed) = table.get(room) else {
            slips.push(format!("src/{name}: the room `{room}` is not in the table"));
            continue;
        };
        for import in imports(&code(&text)).into_iter().filter(|i| i != room && !allowed.contains(&i.as_str())) {
            slips.push(format!("src/{name}: `{room}` must not import `{import}`"));
        }
    }
    assert!(slips.is_empty(), "{}", slips.join("\n"));
}

#[test]
fn foreign_crates_stay_in_their_rooms() {
    let mut slips = Vec::new();
    for (name, text) in sources().iter().filter(|(name, _)| !is_test_file(name)) {
        let code = code(text);
        for (krate, rooms) in FENCED {
            let named = code
                .match_indices(&format!("{krate}::"))
                .any(|(at, _)| !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':'));
            if named && !rooms.iter().any(|room| name.starts_with(room)) {
                slips.push(format!("src/{name}: `{krate}` belongs to {}", rooms.join(", ")));
            }
        }
    }
    assert!(slips.is_empty(), "{}", slips.join("\n"));
}

#[test]
fn pure_files_are_pure() {
    let mut slips = Vec::new();
    for (name, text) in sources().iter().filter(|(name, _)| PURE.iter().any(|p| name.starts_with(p)) && !is_test_file(name)) {
        let code = code(text);
        slips.extend(IMPURE_WORDS.iter().filter(|word| code.contains(**word)).map(|word| format!("src/{name}: `{word}`")));
    }
    for pure in PURE.iter().filter(|p| !root().join("src").join(p).exists()) {
        slips.push(format!("{pure} is in the list and not in src"));
    }
    assert!(slips.is_empty(), "{}", slips.join("\n"));
}

#[test]
fn doubles_stay_out_of_the_product() {
    let mut slips = Vec::new();
    for (name, text) in sources().iter().filter(|(name, _)| !is_test_file(name)) {
        if ["store", "metastore"].contains(&room(name)) {
            continue;
        }
        let code = code(text);
        slips.extend(DOUBLES.iter().filter(|double| code.contains(**double)).map(|double| format!("src/{name}: `{double}`")));
    }
    assert!(slips.is_empty(), "{}", slips.join("\n"));
}

#[test]
fn lines_and_files_have_a_measure() {
    let mut slips = Vec::new();
    for (name, text) in sources() {
        let code_lines = code(&text).lines().filter(|l| !l.trim().is_empty()).count();
        if code_lines > 700 && !is_test_file(&name) {
            slips.push(format!("src/{name}: {code_lines} lines of code"));
        }
        slips.extend(
            text.lines().enumerate().filter(|(_, l)| l.chars().count() > 160).map(|(i, _)| format!("src/{name}:{}: a long line", i + 1)),
        );
        for word in ["TODO", "FIXME", "XXX", "HACK"] {
            slips.extend(text.contains(word).then(|| format!("src/{name}: {word}")));
        }
    }
    assert!(slips.is_empty(), "{}", slips.join("\n"));
}

/// Which ready branch an unbiased `select!` takes is chance, and chance that no seed repeats.
#[test]
fn every_select_is_biased() {
    let mut slips = Vec::new();
    for (name, text) in sources().iter().filter(|(name, _)| !is_test_file(name) && !name.starts_with("oracle") && !name.starts_with("bin"))
    {
        let biased = text.split("select! {").skip(1).all(|rest| rest.trim_start().starts_with("biased;"));
        slips.extend((!biased).then(|| format!("src/{name}")));
    }
    assert!(slips.is_empty(), "select! without biased: {}", slips.join(", "));
}

#[test]
fn the_readme_lists_every_setting_with_its_default() {
    let readme = read("README.md");
    let missing: Vec<_> = yaks::config::SETTINGS
        .iter()
        .filter(|s| {
            let default = if s.default.is_empty() { "unset" } else { s.default };
            !readme.lines().any(|l| l.contains(&format!("`YAKS_{}`", s.name)) && l.contains(&format!("`{default}`")))
        })
        .map(|s| s.name)
        .collect();
    assert!(missing.is_empty(), "README.md does not list {missing:?} with their defaults");
}

#[test]
fn the_metrics_document_names_what_the_code_has() {
    let document = read("docs/METRICS.md");
    let code = read("src/metrics.rs");
    let code = code.split("#[cfg(test)]").next().unwrap_or(&code);
    let names: BTreeSet<_> = code.split('"').filter(|word| word.starts_with("yaks_")).collect();
    let documented: BTreeSet<_> = document.split('`').filter(|word| word.starts_with("yaks_")).collect();
    assert_eq!(names, documented);
}

/// Every word in `text` that is, or is made of, the name of a metric of ours.
fn metrics_named(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_alphanumeric() || c == '_'));
    words.filter(|word| word.starts_with("yaks_")).map(str::to_owned).collect()
}

/// A histogram is asked for by its parts.
fn without_part(name: &str) -> &str {
    ["_bucket", "_sum", "_count"].iter().find_map(|part| name.strip_suffix(part)).unwrap_or(name)
}

#[test]
fn dashboard_and_alerts_name_metrics_that_exist_and_the_dashboard_shows_them_all() {
    let code = read("src/metrics.rs");
    let code = code.split("#[cfg(test)]").next().unwrap_or(&code);
    let there: BTreeSet<_> = code.split('"').filter(|word| word.starts_with("yaks_")).map(str::to_owned).collect();
    let dashboard = metrics_named(&read("grafana/dashboards/yaks-cluster.json"));
    for (file, named) in [("the dashboard", dashboard.clone()), ("alerts.yml", metrics_named(&read("prometheus/alerts.yml")))] {
        let unknown: Vec<_> = named.iter().filter(|name| !there.contains(name.as_str()) && !there.contains(without_part(name))).collect();
        assert!(unknown.is_empty(), "{file} asks for {unknown:?}, which src/metrics.rs does not have");
    }
    let shown: BTreeSet<_> = dashboard.iter().map(|name| if there.contains(name) { name.as_str() } else { without_part(name) }).collect();
    let missing: Vec<_> = there.iter().filter(|name| !shown.contains(name.as_str())).collect();
    assert!(missing.is_empty(), "the dashboard does not show {missing:?}");
}

#[test]
fn operations_says_what_to_do_at_every_alert() {
    let document = read("docs/OPERATIONS.md");
    let alerts = read("prometheus/alerts.yml");
    let alerts: BTreeSet<_> = alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    let described: BTreeSet<_> = document.lines().filter_map(|line| line.strip_prefix("### Yaks")).collect();
    let described: BTreeSet<_> = described.into_iter().map(|rest| format!("Yaks{rest}")).collect();
    assert_eq!(alerts, described.iter().map(String::as_str).collect());
}

/// A setting that is misspelt there would be a warning nobody reads.
#[test]
fn packaging_sets_only_what_is_a_setting() {
    let known: BTreeSet<_> = yaks::config::SETTINGS.iter().map(|setting| format!("YAKS_{}", setting.name)).collect();
    let files = [
        "Dockerfile",
        "docker-compose.yml",
        "docs/OPERATIONS.md",
        "docs/deploy/systemd/yaks.service",
        "docs/deploy/systemd/yaks.env",
        "docs/deploy/kubernetes/configmap.yaml",
        "docs/deploy/kubernetes/secret.yaml",
        "docs/deploy/kubernetes/deployment.yaml",
    ];
    for file in files {
        let text = read(file);
        let words = text.split(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_'));
        let unknown: BTreeSet<_> = words.filter(|word| word.starts_with("YAKS_") && !known.contains(*word)).collect();
        // What Kubernetes would set for a service of our name, and the manifest keeps from us.
        let unknown: Vec<_> = unknown.into_iter().filter(|word| *word != "YAKS_PORT").collect();
        assert!(unknown.is_empty(), "{file} names {unknown:?}");
    }
}

#[test]
fn the_image_is_built_with_the_rust_that_the_manifest_names() {
    let manifest = read("Cargo.toml");
    let version = manifest.lines().find_map(|line| line.strip_prefix("rust-version = ")).expect("a version").trim_matches('"').to_owned();
    assert!(read("Dockerfile").contains(&format!("FROM rust:{version}-")), "the Dockerfile does not build with Rust {version}");
}

/// What docs/PROTOCOL.md says of each API, from the one table of the code.
fn protocol_table() -> String {
    use yaks::protocol::versions::{APIS, State};
    let line = |row: &yaks::protocol::ApiRow| {
        let versions = if row.min == row.max { row.min.to_string() } else { format!("{}-{}", row.min, row.max) };
        match row.state {
            State::Served(..) => format!("| {} | {} | {versions} | |\n", row.key, row.name),
            State::NotServed(reason) => format!("| {} | {} | - | {reason} |\n", row.key, row.name),
        }
    };
    format!("| Key | API | Versions served | Why not |\n|---|---|---|---|\n{}", APIS.iter().map(line).collect::<String>())
}

#[test]
fn the_protocol_document_has_the_table_of_the_code() {
    let (document, table) = (read("docs/PROTOCOL.md"), protocol_table());
    let (begin, end) = ("<!-- apis: generated -->\n", "<!-- end -->");
    let (before, rest) = document.split_once(begin).expect("a marker");
    let (is, after) = rest.split_once(end).expect("an end");
    if is != table && std::env::var_os("YAKS_TEST_UPDATE_DOCS").is_some() {
        std::fs::write(root().join("docs/PROTOCOL.md"), format!("{before}{begin}{table}{end}{after}")).expect("written");
        return;
    }
    assert_eq!(is, table, "run with YAKS_TEST_UPDATE_DOCS=1 to write it anew");
}

fn read(name: &str) -> String {
    std::fs::read_to_string(root().join(Path::new(name))).unwrap_or_else(|error| panic!("{name}: {error}"))
}
