"""Scenarios about producing and consuming."""

import asyncio
import time

from aiokafka import TopicPartition
from aiokafka.errors import MessageSizeTooLargeError

from trial import START, expect, expect_failure, unique


async def produce_consume(trial):
    topic = await trial.topic(4)
    await trial.round_trip(numbered(topic, 1000))
    place = TopicPartition(topic, 0)
    consumer = await trial.consumer()
    consumer.assign([place])
    middle = (await consumer.end_offsets([place]))[place] // 2
    for offset in (middle, middle + 1):  # one of the two is inside a batch
        trial.step(f"seeking to {offset}")
        consumer.seek(place, offset)
        expect("first offset after a seek", offset, (await consumer.getone()).offset)
    return "1000 records, 4 partitions"


async def codecs(trial):
    for codec in (None, "gzip", "snappy", "lz4", "zstd"):
        await trial.round_trip(numbered(await trial.topic(1), 200), compression_type=codec)
    return "none gzip snappy lz4 zstd"


async def auto_create(trial):
    await trial.round_trip(numbered(unique("auto"), 10))
    return "10 records"


async def acks(trial):
    for number in (0, 1, "all"):
        await trial.round_trip(numbered(await trial.topic(1), 200), acks=number)
    return "0, 1, all"


async def long_poll(trial):
    topic = await trial.topic(1)
    producer = await trial.producer()
    consumer = await trial.reader(topic, fetch_max_wait_ms=10000)

    async def send_later():
        await asyncio.sleep(0.5)
        await producer.send_and_wait(topic, b"late")
        return time.monotonic()

    trial.step("polling an empty partition")
    expect("records in an empty partition", {}, await consumer.getmany(timeout_ms=2000))
    trial.step("waiting for a record")
    later = asyncio.create_task(send_later())
    await consumer.getone()
    arrived = time.monotonic()
    delay = round((arrived - await later) * 1000)
    if delay > 5000:
        raise AssertionError(f"the record arrived {delay} ms after its acknowledgement")
    return f"arrival {delay} ms after the acknowledgement"


async def big(trial):
    topic = await trial.topic(1)
    await trial.round_trip([record(topic, 0, bytes(900_000))])
    producer = await trial.producer(max_request_size=4_000_000)
    trial.step("producing 2 MB")
    await expect_failure(producer.send_and_wait(topic, bytes(2_000_000)), MessageSizeTooLargeError)
    trial.step("producing after the refusal")
    expect("next offset", 1, (await producer.send_and_wait(topic, b"small")).offset)
    return "900 KB taken, 2 MB refused"


async def idempotent(trial):
    topic = await trial.topic(3)
    records = [{**one, "partition": i % 3} for i, one in enumerate(numbered(topic, 20_000))]
    await trial.round_trip(records, enable_idempotence=True)
    return "20000 records, 3 partitions"


def numbered(topic, count):
    """So many different records."""
    return [record(topic, i, b"value-%d" % i) for i in range(count)]


def record(topic, i, value):
    headers = [("name", b"number-%d" % i), ("name", b"")]
    return {"topic": topic, "key": b"key-%d" % i, "value": value, "headers": headers, "timestamp_ms": START + i}
