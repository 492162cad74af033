"""Scenarios of consumers that share a topic."""

import threading
import time

from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor

from member import poll
from trial import expect, unique

PARTITIONS = 6
RECORDS = 600


def eager(trial):
    return share(trial, RangePartitionAssignor)


def sticky(trial):
    return share(trial, StickyPartitionAssignor)


def cooperative(trial):
    return share(trial, CooperativeStickyAssignor)


def share(trial, assignor):
    """One consumer, two, one again: each time they own all partitions once, and together they read every record."""
    topic = trial.topic(PARTITIONS)
    group = unique("group")
    fill(trial, topic, 0)

    def consumer():
        return trial.consumer(
            group_id=group, auto_offset_reset="earliest", auto_commit_interval_ms=200, heartbeat_interval_ms=500,
            session_timeout_ms=6000, partition_assignment_strategy=[assignor])

    trial.step("joining alone")
    first = Member(consumer(), topic)
    eventually(lambda: len(first.owned) == PARTITIONS)
    trial.step("joining as the second")
    second = Member(consumer(), topic)
    eventually(lambda: len(first.owned) == len(second.owned) == PARTITIONS // 2 and not first.owned & second.owned)

    trial.step("describing the group")
    described = trial.admin().describe_groups([group])
    expect("state", "Stable", described[group]["group_state"])
    fill(trial, topic, RECORDS)

    trial.step("leaving")
    first.close()
    eventually(lambda: len(second.owned) == PARTITIONS)
    trial.step("reading everything")
    eventually(lambda: len(first.values | second.values) == 2 * RECORDS)
    second.close()

    trial.step("reading the commits")
    commits = trial.admin().list_group_offsets(group)[group]
    expect("commits", 2 * RECORDS, sum(commit.offset for commit in commits.values()))
    trial.step("deleting the group")
    trial.admin().delete_groups([group])
    return "1, 2 and 1 members"


def fill(trial, topic, start):
    trial.send(trial.producer(), [
        {"topic": topic, "partition": i % PARTITIONS, "value": b"value %d" % i} for i in range(start, start + RECORDS)])


def eventually(condition):
    while not condition():
        time.sleep(0.02)


class Member:
    """A consumer that polls in a thread of its own."""

    def __init__(self, consumer, topic):
        self.owned = set()
        self.values = set()
        self._consumer = consumer
        self._stopping = False
        consumer.subscribe([topic])
        self._thread = threading.Thread(target=self._poll, daemon=True)
        self._thread.start()

    def _poll(self):
        while not self._stopping:
            for batch in poll(self._consumer).values():
                self.values |= {record.value for record in batch}
            self.owned = set(self._consumer.assignment())
        self._consumer.close()

    def close(self):
        self._stopping = True
        self._thread.join()
