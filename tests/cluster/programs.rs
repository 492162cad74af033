//! The client programs of tests/clients as load: of each client a steady producer, and members of a group that read what it sends.

use std::process::Command;
use std::time::{Duration, Instant};

use super::agents::{Access, Cluster};
use super::members::{Group, Member, Program, is_settled};
use super::process::Process;
use super::story::{Promise, Sent, Story};
use super::support::{blocking, create_topic};
use super::{say, wait};

const RUN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/run");
/// What it says with its exit status if the toolchain is missing.
const SKIPPED: i32 = 77;
const PARTITIONS: i32 = 3;
/// Records a second of each producer.
const RATE: &str = "5";
/// How long a member may be silent.
const SESSION: Duration = Duration::from_secs(10);
/// When everything must work again, be told and be read: longer than any client waits between its attempts.
const WITHIN: Duration = Duration::from_secs(90);
/// When all must work at first: two dozen programs start at once.
const BEGINNING: Duration = Duration::from_mins(4);

/// A client, its best protocol of groups, and what its producer promises by default.
#[derive(Debug, Clone, Copy)]
struct Client {
    name: &'static str,
    protocol: &'static str,
    promise: Promise,
    /// Whether its members were seen to hang after many faults by a fault of its own (docs/PERFORMANCE.md tells of the runs of an hour): then they are
    /// started anew, as a supervisor would, and that is said.
    may_hang: bool,
}

const CLIENTS: [Client; 6] = [
    Client { name: "java", protocol: "server", promise: Promise::Idempotent, may_hang: false },
    Client { name: "franz-go", protocol: "server", promise: Promise::Idempotent, may_hang: false },
    Client { name: "sarama", protocol: "cooperative", promise: Promise::AtLeastOnce, may_hang: false },
    Client { name: "python", protocol: "cooperative", promise: Promise::Idempotent, may_hang: true },
    Client { name: "aiokafka", protocol: "sticky", promise: Promise::AtLeastOnce, may_hang: false },
    Client { name: "kafkajs", protocol: "eager", promise: Promise::AtLeastOnce, may_hang: false },
];

/// Those whose toolchain is there; others are said to be skipped.
fn clients() -> Vec<Client> {
    let wanted = std::env::var("YAKS_TEST_CLUSTER_CLIENTS");
    let is_wanted = |client: &Client| wanted.as_ref().map_or(true, |names| names.split(',').any(|name| name == client.name));
    CLIENTS.into_iter().filter(is_wanted).filter(Client::is_there).collect()
}

impl Client {
    fn member(&self, group: &Group) -> Member {
        group.member(Program::Script { client: self.name, protocol: self.protocol }, None)
    }

    fn is_there(&self) -> bool {
        let output = Command::new(RUN).args([self.name, "--build-only"]).output().expect("the script");
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        said.lines().for_each(say);
        let is_skipped = output.status.code() == Some(SKIPPED);
        assert!(output.status.success() || is_skipped, "{} cannot be built: {said}", self.name);
        !is_skipped
    }
}

/// The programs of one client.
struct Load {
    /// With the access, for the report.
    name: String,
    client: Client,
    group: Group,
    producer: Process<Sent>,
    members: Vec<Member>,
    /// Members that were killed because they hung: what they read counts.
    replaced: Vec<Member>,
    /// How many records were acknowledged when the faults were over.
    acked_before: usize,
}

impl Load {
    fn start(client: Client, access: Access, group: Group, members: usize) -> Load {
        let mut command = Command::new(RUN);
        command.args([client.name, "--bootstrap", &group.brokers, "--producer", "--topic", &group.topic, "--rate", RATE]);
        let members = (0..members).map(|_| client.member(&group)).collect();
        let producer = Process::start(command, Sent::note);
        Load { name: format!("{access:?} {}", client.name), client, group, producer, members, replaced: Vec::new(), acked_before: 0 }
    }

    fn story(&self) -> Story {
        let read = self.members.iter().chain(&self.replaced).flat_map(Member::records).collect();
        Story { promise: self.client.promise, sent: self.producer.told(|sent| sent.clone()), read }
    }

    /// What a supervisor does with members that hang.
    fn replace_members(&mut self) {
        say(&format!("{}: its members hang and are started anew: {}", self.name, self.progress()));
        for member in &mut self.members {
            member.kill();
            self.replaced.push(std::mem::replace(member, self.client.member(&self.group)));
        }
    }

    fn acked(&self) -> usize {
        self.producer.told(|sent| sent.acked.len())
    }

    fn is_settled(&self) -> bool {
        is_settled(&self.members.iter().collect::<Vec<_>>(), PARTITIONS)
    }

    fn progress(&self) -> String {
        let (acked, read) = (self.acked(), self.story().read.len());
        let shares: Vec<_> = self.members.iter().map(Member::assignment).collect();
        format!("{}: {acked} acknowledged, {read} read, members own {shares:?}", self.name)
    }

    /// What the programs told and how they fared, with the figures printed.
    fn faults(&mut self) -> Vec<String> {
        let story = self.story();
        let Sent { acked, failed, longest_pause, .. } = &story.sent;
        let (acked, gave_up, name) = (acked.len(), failed.len(), &self.name);
        say(&format!("{name}: {acked} acknowledged, {gave_up} failed, {} repeated, longest pause {longest_pause:.1?}", story.repeats()));
        for (value, reason) in failed {
            say(&format!("{name} gave up {value}: {reason}"));
        }
        let mut faults = story.faults();
        match self.producer.ended() {
            Some(status) if status.success() => {}
            other => faults.push(format!("the producer ended with {other:?}")),
        }
        faults.extend(self.members.iter_mut().filter_map(Member::ended).map(|status| format!("a member ended by itself with {status}")));
        faults
    }
}

/// The programs of all clients under way.
pub struct Programs(Vec<Load>);

impl Programs {
    /// With so many members of each client. Returns when all work: how a program starts in an outage is not what is tested.
    pub async fn start(cluster: &Cluster, members: usize) -> Programs {
        let (mut programs, bootstrap) = (Programs(Vec::new()), &cluster.bootstrap());
        for client in blocking(clients).await {
            let group = Group { session: SESSION, ..Group::of(bootstrap, client.name) };
            create_topic(bootstrap, &group.topic, PARTITIONS).await;
            programs.0.push(Load::start(client, cluster.access, group, members));
        }
        let late = programs.until("begin", BEGINNING, |load| load.is_settled() && !load.story().read.is_empty()).await;
        assert!(late.is_empty(), "{}", late.join("\n"));
        programs
    }

    /// After the faults all are to go on, to end in good order, and to have kept their promises; returns and says where it is not so.
    pub async fn judge(mut self) -> Vec<String> {
        self.0.iter_mut().for_each(|load| load.acked_before = load.acked());
        let mut faults = self.until("go on", WITHIN, |load| load.acked() > load.acked_before).await;
        self.0.iter_mut().for_each(|load| load.producer.end_input());
        faults.extend(self.until("end its producer", WITHIN, |load| load.producer.ended().is_some()).await);
        // Late ones get their second chance here.
        self.until("settle", WITHIN, |load| load.is_settled()).await;
        self.0.iter_mut().filter(|load| load.client.may_hang && !load.is_settled()).for_each(Load::replace_members);
        faults.extend(self.until("read everything", WITHIN, |load| load.story().unread().is_empty()).await);
        faults.extend(self.until("settle", WITHIN, |load| load.is_settled()).await);
        for load in &mut self.0 {
            let found = load.faults();
            faults.extend(found.iter().map(|fault| format!("{}: {fault}", load.name)));
        }
        for fault in &faults {
            say(fault);
        }
        faults
    }

    /// Waits until it is so for all of them, but not for ever; returns for whom it was not.
    async fn until(&mut self, what: &str, within: Duration, mut is_so: impl FnMut(&mut Load) -> bool) -> Vec<String> {
        let began = Instant::now();
        loop {
            let late: Vec<&Load> = self.0.iter_mut().filter_map(|load| (!is_so(load)).then_some(&*load)).collect();
            if late.is_empty() || began.elapsed() > within {
                return late.iter().map(|late| format!("not all did {what} within {within:?}: {}", late.progress())).collect();
            }
            wait(Duration::from_millis(100)).await;
        }
    }
}
