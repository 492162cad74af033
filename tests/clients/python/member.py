"""A member of a group as a process, to be killed: it tells what it owns and reads until its standard input ends."""

import sys
import threading

import kafka
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor

PROTOCOLS = {
    "eager": RangePartitionAssignor,
    "sticky": StickyPartitionAssignor,
    "cooperative": CooperativeStickyAssignor,
}


def add_arguments(parser):
    parser.add_argument("--member", choices=PROTOCOLS, help="be a member of a group instead, with this protocol")
    parser.add_argument("--topic")
    parser.add_argument("--group")
    parser.add_argument("--instance")
    parser.add_argument("--session-ms", type=int)


def poll(consumer):
    try:
        return consumer.poll(100)
    except kafka.errors.KafkaError as error:
        # This client tells of lost connections, too.
        if error.retriable:
            return {}
        raise


def run(options):
    consumer = kafka.KafkaConsumer(
        options.topic, bootstrap_servers=options.bootstrap, group_id=options.group, group_instance_id=options.instance,
        session_timeout_ms=options.session_ms, heartbeat_interval_ms=500, auto_offset_reset="earliest",
        auto_commit_interval_ms=200, partition_assignment_strategy=[PROTOCOLS[options.member]])
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    told = set()
    while not ended.is_set():
        for batch in poll(consumer).values():
            for record in batch:
                print("record", record.partition, record.offset, record.value.decode())
        owned = {place.partition for place in consumer.assignment()}
        if owned != told:
            print("assignment", *owned)
            told = owned
        sys.stdout.flush()  # what the next poll may commit must have been told
    consumer.close()
