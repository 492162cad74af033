//! Members of a group, each a process of its own, so that they can be killed; and what they saw.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::Message as _;
use rdkafka::{Offset, TopicPartitionList};

use super::process::Process;
use super::support::{LONG, client};

const SETTINGS: &str = "YAKS_TEST_MEMBER";

/// What a member has told so far.
#[derive(Debug, Default)]
struct Seen {
    assignment: BTreeSet<i32>,
    /// Partition, offset, value.
    records: Vec<(i32, i64, String)>,
}

/// What a member is made of.
#[derive(Clone, Copy, Debug)]
pub enum Program {
    /// This test itself, with settings of librdkafka's.
    Librdkafka(&'static [(&'static str, &'static str)]),
    /// A program of tests/clients, and a name of its for a protocol.
    Script { client: &'static str, protocol: &'static str },
}

impl Program {
    /// kafkajs has none, and franz-go does not say whose name it is that will come back (KIP-848): every broker refuses that.
    pub fn has_static_members(self) -> bool {
        !matches!(self, Program::Script { client: "kafkajs", .. } | Program::Script { client: "franz-go", protocol: "server" })
    }

    /// With KIP-848 a static member says that it will come back; one that died holds its name until its session ends.
    pub fn is_told_of_restarts(self) -> bool {
        match self {
            Program::Librdkafka(settings) => settings.contains(&("group.protocol", "consumer")),
            Program::Script { protocol, .. } => protocol == "server",
        }
    }
}

/// Whose members: of one group that reads one topic.
#[derive(Clone, Debug)]
pub struct Group {
    pub brokers: String,
    pub topic: String,
    pub name: String,
    pub session: Duration,
}

impl Group {
    pub fn of(brokers: &str, name: &str) -> Group {
        Group { brokers: brokers.to_owned(), topic: format!("topic-{name}"), name: name.to_owned(), session: Duration::from_secs(6) }
    }

    pub fn member(&self, program: Program, instance: Option<&str>) -> Member {
        Member::start(match program {
            Program::Librdkafka(settings) => self.librdkafka(settings, instance),
            Program::Script { client, protocol } => self.script(client, protocol, instance),
        })
    }

    fn librdkafka(&self, settings: &'static [(&'static str, &'static str)], instance: Option<&str>) -> Command {
        let mut all = vec![
            format!("bootstrap.servers={}", self.brokers),
            format!("topic={}", self.topic),
            format!("group.id={}", self.name),
            "auto.offset.reset=earliest".to_owned(),
            "auto.commit.interval.ms=200".to_owned(),
            "enable.auto.offset.store=false".to_owned(),
        ];
        // Protocols differ in what may be set.
        if !Program::Librdkafka(settings).is_told_of_restarts() {
            all.extend([format!("session.timeout.ms={}", self.session.as_millis()), "heartbeat.interval.ms=1000".to_owned()]);
        }
        all.extend(instance.map(|name| format!("group.instance.id={name}")));
        all.extend(settings.iter().map(|(name, value)| format!("{name}={value}")));
        let mut command = Command::new(std::env::current_exe().expect("this test"));
        command.args(["--exact", "members::a_member", "--ignored", "--nocapture"]).env(SETTINGS, all.join("\n"));
        command
    }

    fn script(&self, client: &str, protocol: &str, instance: Option<&str>) -> Command {
        let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/run"));
        command.args([client, "--bootstrap", &self.brokers, "--member", protocol, "--topic", &self.topic, "--group", &self.name]);
        command.args(["--session-ms", &self.session.as_millis().to_string()]);
        instance.map(|name| command.args(["--instance", name]));
        if let Some(log) = log_of(client) {
            command.arg("--verbose").stderr(log);
        }
        command
    }
}

/// Where `YAKS_TEST_LOGS` keeps the log of a member of this client, if `YAKS_TEST_LOGS_OF` names it.
fn log_of(client: &str) -> Option<File> {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let (directory, clients) = (std::env::var("YAKS_TEST_LOGS").ok()?, std::env::var("YAKS_TEST_LOGS_OF").ok()?);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let path = Path::new(&directory).join(format!("{client}-{number}.log"));
    clients.split(',').any(|name| name == client).then(|| File::create(path).expect("YAKS_TEST_LOGS is a directory"))
}

/// A member of a group, as a process.
pub struct Member(Process<Seen>);

impl Member {
    fn start(command: Command) -> Member {
        Member(Process::start(command, note))
    }

    pub fn assignment(&self) -> BTreeSet<i32> {
        self.0.told(|seen| seen.assignment.clone())
    }

    pub fn records(&self) -> Vec<(i32, i64, String)> {
        self.0.told(|seen| seen.records.clone())
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.0.ended()
    }

    /// It leaves its group and ends; it owns nothing any more.
    pub fn leave(&mut self) {
        self.0.end_input();
        assert!(self.0.wait().success());
        self.0.told(|seen| seen.assignment.clear());
    }

    /// It ends, and its group is not told.
    pub fn kill(&mut self) {
        self.0.kill();
        self.0.told(|seen| seen.assignment.clear());
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
    let [(_, brokers), (_, topic), rest @ ..] = settings.as_slice() else { panic!("brokers and a topic") };
    let consumer: BaseConsumer = client(brokers, rest).create().expect("a consumer");
    consumer.subscribe(&[topic]).expect("subscribed");
    let ended = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&ended);
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        told.store(true, Ordering::Release);
    });
    let mut assigned = Vec::new();
    while !ended.load(Ordering::Acquire) {
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

/// Whether these members own all partitions, each one once and nobody none.
pub fn is_settled(members: &[&Member], partitions: i32) -> bool {
    let shares: Vec<BTreeSet<i32>> = members.iter().map(|member| member.assignment()).collect();
    let mut owned: Vec<i32> = shares.iter().flatten().copied().collect();
    owned.sort_unstable();
    owned.into_iter().eq(0..partitions) && shares.iter().all(|share| !share.is_empty())
}

/// Waits until they do; returns how long it took.
pub fn settle(members: &[&Member], partitions: i32) -> Duration {
    let began = Instant::now();
    while !is_settled(members, partitions) {
        let shares: Vec<BTreeSet<i32>> = members.iter().map(|member| member.assignment()).collect();
        assert!(began.elapsed() < LONG * 3, "the group does not settle: {shares:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
    began.elapsed()
}

/// What a group committed; it never goes back.
pub struct Commits {
    consumer: BaseConsumer,
    group: String,
    topic: String,
    pub last: BTreeMap<i32, i64>,
}

impl Commits {
    pub fn of(group: &Group) -> Commits {
        let consumer = client(&group.brokers, &[("group.id", &group.name)]).create().expect("a consumer");
        Commits { consumer, group: group.name.clone(), topic: group.topic.clone(), last: BTreeMap::new() }
    }

    /// Their sum.
    pub fn look(&mut self, partitions: i32) -> i64 {
        let mut wanted = TopicPartitionList::new();
        wanted.add_partition_range(&self.topic, 0, partitions - 1);
        let found = self.consumer.committed_offsets(wanted, LONG).expect("offsets");
        for element in found.elements() {
            element.error().expect("an offset");
            let offset = match element.offset() {
                Offset::Offset(offset) => offset,
                _ => 0,
            };
            let before = self.last.insert(element.partition(), offset).unwrap_or_default();
            assert!(
                before <= offset,
                "{}: the commit of partition {} went back from {before} to {offset}",
                self.group,
                element.partition()
            );
        }
        self.last.values().sum()
    }
}

/// Looks at the commits all the time.
pub struct Watch {
    ended: Arc<AtomicBool>,
    thread: JoinHandle<Commits>,
}

impl Watch {
    pub fn start(group: &Group, partitions: i32) -> Watch {
        let ended = Arc::new(AtomicBool::new(false));
        let (told, mut commits) = (Arc::clone(&ended), Commits::of(group));
        let thread = std::thread::spawn(move || {
            while !told.load(Ordering::Acquire) {
                commits.look(partitions);
                std::thread::sleep(Duration::from_millis(50));
            }
            commits
        });
        Watch { ended, thread }
    }

    pub fn stop(self) -> Commits {
        self.ended.store(true, Ordering::Release);
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}
