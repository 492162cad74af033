//! Who is to have what: the two assignors of Kafka's brokers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::subscribe::Subscribed;
use super::{ConsumerGroup, Member};
use crate::group::classic::InstanceId;
use crate::types::{MemberId, TopicPartition};

/// A way to share partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Assignor {
    /// Everybody as many as everybody else, and as much as possible what it had.
    #[default]
    Uniform,
    /// Of each topic a range, the same of topics with as many partitions.
    Range,
}

impl Assignor {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Assignor::Uniform => "uniform",
            Assignor::Range => "range",
        }
    }

    #[must_use]
    pub fn named(name: &str) -> Option<Assignor> {
        [Assignor::Uniform, Assignor::Range].into_iter().find(|assignor| assignor.name() == name)
    }
}

/// Gives every member its target.
pub(super) fn assign(group: &mut ConsumerGroup, subscribed: &Subscribed) {
    let targets = match group.assignor {
        Assignor::Uniform => uniform(group, subscribed),
        Assignor::Range => range(group, subscribed),
    };
    for (id, member) in &mut group.members {
        member.target = targets.get(id).map(|logs| logs.iter().copied().collect()).unwrap_or_default();
    }
}

type Targets = BTreeMap<MemberId, Vec<TopicPartition>>;
/// Members by load.
type Order = BTreeSet<(usize, usize)>;

fn range(group: &ConsumerGroup, subscribed: &Subscribed) -> Targets {
    let mut targets = Targets::new();
    for (name, (topic, partitions)) in &subscribed.topics {
        let mut readers: Vec<(Option<&InstanceId>, &MemberId)> =
            readers(group, subscribed, name).map(|(id, m)| (m.instance.as_ref(), id)).collect();
        // Static members first, so that they keep their places when others come and go.
        readers.sort_by_key(|(instance, id)| (instance.is_none(), instance.cloned(), *id));
        let (each, more) = share(*partitions, readers.len());
        let mut next = 0;
        for (at, (_, reader)) in readers.into_iter().enumerate() {
            let end = next + each + i32::from(at < more);
            targets.entry(reader.clone()).or_default().extend((next..end).map(|p| TopicPartition::new(*topic, p)));
            next = end;
        }
    }
    targets
}

/// How many everybody gets, and how many get one more.
fn share(partitions: i32, readers: usize) -> (i32, usize) {
    let readers = i32::try_from(readers).unwrap_or(i32::MAX);
    match (partitions.checked_div(readers), partitions.checked_rem(readers)) {
        (Some(each), Some(more)) => (each, usize::try_from(more).unwrap_or(0)),
        (_nobody, _reads) => (0, 0),
    }
}

fn readers<'a>(
    group: &'a ConsumerGroup,
    subscribed: &'a Subscribed,
    topic: &'a Arc<str>,
) -> impl Iterator<Item = (&'a MemberId, &'a Member)> {
    let reads = move |id: &MemberId| subscribed.by_member.get(id).is_some_and(|topics| topics.contains(topic));
    group.members.iter().filter(move |(id, _)| reads(id))
}

/// Everybody keeps what it had and may keep; what is nobody's goes to whoever has least; then the one who has most gives to the one who has
/// least, as long as that makes them more equal.
fn uniform(group: &ConsumerGroup, subscribed: &Subscribed) -> Targets {
    let mut table = Table::new(group, subscribed);
    table.keep(group);
    table.give_out();
    table.level();
    table.targets()
}

/// Members and partitions by number.
struct Table<'a> {
    members: Vec<&'a MemberId>,
    logs: Vec<TopicPartition>,
    /// For each partition, who may have it.
    eligible: Vec<usize>,
    /// Sets of members, each named by those who may have some topic.
    circles: Vec<Vec<usize>>,
    owner: Vec<Option<usize>>,
    loads: Vec<usize>,
}

impl<'a> Table<'a> {
    fn new(group: &'a ConsumerGroup, subscribed: &'a Subscribed) -> Self {
        let members: Vec<&MemberId> = group.members.keys().collect();
        let mut table = Table { loads: vec![0; members.len()], members, logs: vec![], eligible: vec![], circles: vec![], owner: vec![] };
        for (name, (topic, partitions)) in &subscribed.topics {
            let circle: Vec<usize> = (0..table.members.len())
                .filter(|at| table.members.get(*at).and_then(|id| subscribed.by_member.get(*id)).is_some_and(|t| t.contains(name)))
                .collect();
            let number = table.circles.iter().position(|known| *known == circle).unwrap_or_else(|| {
                table.circles.push(circle);
                table.circles.len() - 1
            });
            for partition in 0..*partitions {
                table.logs.push(TopicPartition::new(*topic, partition));
                table.eligible.push(number);
                table.owner.push(None);
            }
        }
        table
    }

    fn keep(&mut self, group: &ConsumerGroup) {
        let numbers: BTreeMap<TopicPartition, usize> = self.logs.iter().enumerate().map(|(at, log)| (*log, at)).collect();
        for (member, had) in group.members.values().enumerate() {
            for log in had.target.iter() {
                let Some(at) = numbers.get(&log).copied() else { continue };
                let may = self.circle(at).contains(&member);
                if may && self.owner(at).is_none() {
                    self.set(at, member);
                }
            }
        }
    }

    fn circle(&self, log: usize) -> &[usize] {
        self.eligible.get(log).and_then(|number| self.circles.get(*number)).map_or(&[], Vec::as_slice)
    }

    fn owner(&self, log: usize) -> Option<usize> {
        self.owner.get(log).copied().flatten()
    }

    fn load(&self, member: usize) -> usize {
        self.loads.get(member).copied().unwrap_or(0)
    }

    fn set(&mut self, log: usize, member: usize) {
        if let Some(before) = self.owner(log).and_then(|owner| self.loads.get_mut(owner)) {
            *before -= 1;
        }
        if let (Some(owner), Some(load)) = (self.owner.get_mut(log), self.loads.get_mut(member)) {
            *owner = Some(member);
            *load += 1;
        }
    }

    /// Those of which fewest can have them come first.
    fn give_out(&mut self) {
        let mut free: Vec<usize> = (0..self.logs.len()).filter(|log| self.owner(*log).is_none()).collect();
        free.sort_by_key(|log| (self.circle(*log).len(), *log));
        let mut orders: BTreeMap<usize, Order> = BTreeMap::new();
        for log in free {
            let Some(number) = self.eligible.get(log).copied() else { continue };
            let order = orders.entry(number).or_insert_with(|| self.circle(log).iter().map(|m| (self.load(*m), *m)).collect());
            // Another circle's share may have made some of these loads grow since.
            while let Some((load, member)) = order.pop_first() {
                let present = self.load(member);
                if present == load {
                    self.set(log, member);
                    order.insert((load + 1, member));
                    break;
                }
                order.insert((present, member));
            }
        }
    }

    /// Each move makes the sum of the squares of loads smaller, so this ends. It is always one who has most who gives, so that no more moves than must.
    fn level(&mut self) {
        let mut held: Vec<BTreeMap<usize, Vec<usize>>> = vec![BTreeMap::new(); self.members.len()];
        for (log, owner) in self.owner.iter().enumerate() {
            if let (Some(held), Some(number)) = (owner.and_then(|owner| held.get_mut(owner)), self.eligible.get(log)) {
                held.entry(*number).or_default().push(log);
            }
        }
        let mut orders = self.circles.iter().map(|circle| circle.iter().map(|m| (self.load(*m), *m)).collect()).collect::<Vec<Order>>();
        while self.level_once(&mut held, &mut orders) {}
    }

    /// Until nobody can give; true if somebody did.
    fn level_once(&mut self, held: &mut [BTreeMap<usize, Vec<usize>>], orders: &mut [Order]) -> bool {
        let mut givers: Order = self.loads.iter().copied().zip(0..).collect();
        let mut moved = false;
        while let Some((load, giver)) = givers.pop_last() {
            let present = self.load(giver);
            if present != load {
                // It was given something meanwhile.
                givers.insert((present, giver));
                continue;
            }
            let Some(circles) = held.get(giver) else { continue };
            let least = |number: &usize| Some((orders.get(*number)?.first().copied()?, *number));
            let best = circles.iter().filter(|(_, logs)| !logs.is_empty()).filter_map(|(number, _)| least(number)).min();
            let Some(((low, taker), number)) = best.filter(|((low, _), _)| low + 1 < load) else { continue };
            let Some(log) = held.get_mut(giver).and_then(|circles| circles.get_mut(&number)?.pop()) else { continue };
            self.set(log, taker);
            for order in orders.iter_mut() {
                for (member, before) in [(giver, load), (taker, low)] {
                    if order.remove(&(before, member)) {
                        order.insert((self.load(member), member));
                    }
                }
            }
            if let Some(circles) = held.get_mut(taker) {
                circles.entry(number).or_default().push(log);
            }
            givers.insert((load - 1, giver));
            moved = true;
        }
        moved
    }

    fn targets(&self) -> Targets {
        let mut targets = Targets::new();
        for (log, owner) in self.logs.iter().zip(&self.owner) {
            if let Some(member) = owner.and_then(|owner| self.members.get(owner)) {
                targets.entry((*member).clone()).or_default().push(*log);
            }
        }
        targets
    }
}
