//! Members of a group, each a process of its own, so that they can be killed; and what they saw.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::Message as _;
use rdkafka::{Offset, TopicPartitionList};

use super::support::{LONG, client};

const SETTINGS: &str = "YAKS_TEST_MEMBER";

/// What a member has told so far.
#[derive(Debug, Default)]
struct Seen {
    assignment: BTreeSet<i32>,
    /// Partition, offset, value.
    records: Vec<(i32, i64, String)>,
}

/// A member of the group `group` that reads the topic `t`.
pub struct Member {
    child: Child,
    seen: Arc<Mutex<Seen>>,
}

impl Member {
    /// `settings` are librdkafka's.
    pub fn start(brokers: &str, settings: &[(&str, &str)]) -> Member {
        let mut all = vec![format!("bootstrap.servers={brokers}")];
        all.extend(settings.iter().map(|(name, value)| format!("{name}={value}")));
        let mut command = Command::new(std::env::current_exe().expect("this test"));
        command.args(["--exact", "members::a_member", "--ignored", "--nocapture"]).env(SETTINGS, all.join("\n"));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a member");
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (told, lines) = (Arc::clone(&seen), BufReader::new(child.stdout.take().expect("piped")));
        std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                note(&mut told.lock().expect("not poisoned"), &line);
            }
        });
        Member { child, seen }
    }

    pub fn assignment(&self) -> BTreeSet<i32> {
        self.seen.lock().expect("not poisoned").assignment.clone()
    }

    pub fn records(&self) -> Vec<(i32, i64, String)> {
        self.seen.lock().expect("not poisoned").records.clone()
    }

    /// It leaves its group and ends.
    pub fn leave(&mut self) {
        drop(self.child.stdin.take());
        assert!(self.child.wait().expect("reaped").success());
        self.seen.lock().expect("not poisoned").assignment.clear();
    }

    /// It ends, and its group is not told.
    pub fn kill(&mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("reaped");
        self.seen.lock().expect("not poisoned").assignment.clear();
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn note(seen: &mut Seen, line: &str) {
    let mut words = line.split(' ');
    match words.next() {
        Some("assignment") => seen.assignment = words.filter_map(|word| word.parse().ok()).collect(),
        Some("record") => {
            let (partition, offset) = (words.next().and_then(|w| w.parse().ok()), words.next().and_then(|w| w.parse().ok()));
            if let (Some(partition), Some(offset), Some(value)) = (partition, offset, words.next()) {
                seen.records.push((partition, offset, value.to_owned()));
            }
        }
        _ => {}
    }
}

/// The process of a member: reads until its standard input ends.
#[test]
#[ignore = "a process of other tests"]
fn a_member() {
    let Ok(settings) = std::env::var(SETTINGS) else { return };
    let settings: Vec<(&str, &str)> = settings.lines().filter_map(|line| line.split_once('=')).collect();
    let (brokers, rest) = settings.split_first().expect("brokers");
    let mut all = vec![("group.id", "group"), ("auto.offset.reset", "earliest"), ("auto.commit.interval.ms", "200")];
    all.push(("enable.auto.offset.store", "false"));
    all.extend([("session.timeout.ms", "6000"), ("heartbeat.interval.ms", "1000")]);
    all.extend(rest);
    // Protocols differ in what may be set.
    if rest.contains(&("group.protocol", "consumer")) {
        all.retain(|(name, _)| !["session.timeout.ms", "heartbeat.interval.ms"].contains(name));
    }
    let consumer: BaseConsumer = client(brokers.1, &all).create().expect("a consumer");
    consumer.subscribe(&["t"]).expect("subscribed");
    let ended = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let told = Arc::clone(&ended);
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        told.store(true, std::sync::atomic::Ordering::Release);
    });
    let mut assigned = Vec::new();
    while !ended.load(std::sync::atomic::Ordering::Acquire) {
        match consumer.poll(Duration::from_millis(20)) {
            Some(Ok(record)) => {
                let value = String::from_utf8_lossy(record.payload().unwrap_or_default()).into_owned();
                println!("record {} {} {value}", record.partition(), record.offset());
                // Only now may it be committed. It cannot be any more if the partition was taken away meanwhile.
                let _ = consumer.store_offset_from_message(&record);
            }
            Some(Err(error)) => eprintln!("a member says {error}"),
            None => {}
        }
        let assignment: Vec<i32> = consumer
            .assignment()
            .expect("an assignment")
            .elements()
            .iter()
            .map(rdkafka::topic_partition_list::TopicPartitionListElem::partition)
            .collect();
        if assignment != assigned {
            println!("assignment {}", assignment.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "));
            assigned = assignment;
        }
    }
}

/// Waits until these members own all partitions, each one once and nobody none; returns how long it took.
pub fn settle(members: &[&Member], partitions: i32) -> Duration {
    let began = Instant::now();
    loop {
        let shares: Vec<BTreeSet<i32>> = members.iter().map(|member| member.assignment()).collect();
        let owned: Vec<i32> = shares.iter().flatten().copied().collect();
        let all: BTreeSet<i32> = owned.iter().copied().collect();
        if owned.len() == partitions as usize && all == (0..partitions).collect() && shares.iter().all(|share| !share.is_empty()) {
            return began.elapsed();
        }
        assert!(began.elapsed() < LONG, "the group does not settle: {shares:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Looks at what the group committed, again and again: it never goes back.
pub struct Commits {
    consumer: BaseConsumer,
    last: BTreeMap<i32, i64>,
}

impl Commits {
    pub fn of(brokers: &str) -> Commits {
        let consumer = client(brokers, &[("group.id", "group")]).create().expect("a consumer");
        Commits { consumer, last: BTreeMap::new() }
    }

    /// Their sum.
    pub fn look(&mut self, partitions: i32) -> i64 {
        let mut wanted = TopicPartitionList::new();
        wanted.add_partition_range("t", 0, partitions - 1);
        let found = self.consumer.committed_offsets(wanted, LONG).expect("offsets");
        for element in found.elements() {
            let Offset::Offset(offset) = element.offset() else { continue };
            let before = self.last.insert(element.partition(), offset).unwrap_or(0);
            assert!(before <= offset, "the commit of partition {} went back from {before} to {offset}", element.partition());
        }
        self.last.values().sum()
    }
}
