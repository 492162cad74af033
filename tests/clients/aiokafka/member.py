"""A member of a group as a process, to be killed: it tells what it owns and reads until its standard input ends."""

import asyncio
import sys

import aiokafka
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor

from trial import stop

PROTOCOLS = {"eager": RangePartitionAssignor, "sticky": StickyPartitionAssignor}


def add_arguments(parser):
    parser.add_argument("--member", choices=PROTOCOLS, help="be a member of a group instead, with this protocol")
    parser.add_argument("--topic")
    parser.add_argument("--group")
    parser.add_argument("--instance")
    parser.add_argument("--session-ms", type=int)


async def run(options):
    consumer = aiokafka.AIOKafkaConsumer(
        options.topic, bootstrap_servers=options.bootstrap, group_id=options.group, group_instance_id=options.instance,
        session_timeout_ms=options.session_ms, heartbeat_interval_ms=500, auto_offset_reset="earliest",
        auto_commit_interval_ms=200, partition_assignment_strategy=[PROTOCOLS[options.member]])
    end = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await consumer.start()
    told = set()
    while not end.done():
        # Between polls nothing else runs that could commit: what was polled is told by then.
        for batch in (await consumer.getmany(timeout_ms=100)).values():
            for record in batch:
                print("record", record.partition, record.offset, record.value.decode())
        owned = {place.partition for place in consumer.assignment()}
        if owned != told:
            print("assignment", *owned)
            told = owned
        sys.stdout.flush()
    await stop(consumer)
