"""Scenarios of consumers that share a topic."""

import asyncio

from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor

from trial import eventually, expect, stop, unique

PARTITIONS = 6
RECORDS = 600


async def eager(trial):
    return await share(trial, RangePartitionAssignor)


async def sticky(trial):
    return await share(trial, StickyPartitionAssignor)


async def share(trial, assignor):
    """One consumer, two, one again: each time they own all partitions once, and together they read every record."""
    topic = await trial.topic(PARTITIONS)
    group = unique("group")
    await fill(trial, topic, 0)

    async def join():
        return Member(await trial.consumer(
            topic, group_id=group, auto_offset_reset="earliest", auto_commit_interval_ms=200, heartbeat_interval_ms=500,
            session_timeout_ms=6000, partition_assignment_strategy=[assignor]))

    async def alone(member):
        await eventually(lambda: owns(PARTITIONS, member))

    trial.step("joining alone")
    first = await join()
    await alone(first)
    trial.step("joining as the second")
    second = await join()
    await eventually(lambda: owns(PARTITIONS // 2, first, second))

    trial.step("describing the group")
    described = (await (await trial.admin()).describe_consumer_groups([group]))[0].groups[0]
    expect("state", "Stable", described[2])
    expect("members", 2, len(described[5]))
    await fill(trial, topic, RECORDS)

    trial.step("leaving")
    await first.close()
    await alone(second)
    trial.step("reading everything")

    async def all_read():
        return len(first.values | second.values) == 2 * RECORDS

    await eventually(all_read)
    await second.close()

    trial.step("reading the commits")
    commits = await (await trial.admin()).list_consumer_group_offsets(group)
    expect("commits", 2 * RECORDS, sum(commit.offset for commit in commits.values()))
    return "1, 2 and 1 members"


async def owns(count, *members):
    shares = [member.consumer.assignment() for member in members]
    return all(len(share) == count for share in shares) and len(set().union(*shares)) == count * len(members)


async def fill(trial, topic, start):
    await trial.send(await trial.producer(), [
        {"topic": topic, "partition": i % PARTITIONS, "value": b"value %d" % i} for i in range(start, start + RECORDS)])


class Member:
    """A consumer that polls in a task of its own."""

    def __init__(self, consumer):
        self.values = set()
        self.consumer = consumer
        self._task = asyncio.create_task(self._poll())

    async def _poll(self):
        while True:
            for batch in (await self.consumer.getmany(timeout_ms=100)).values():
                self.values |= {record.value for record in batch}

    async def close(self):
        self._task.cancel()
        await stop(self.consumer)
