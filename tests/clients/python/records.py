"""Scenarios about producing and consuming."""

import threading
import time

from kafka import TopicPartition
from kafka.errors import MessageSizeTooLargeError

from trial import START, expect, expect_failure, first, unique


def produce_consume(trial):
    topic = trial.topic(4)
    trial.round_trip(numbered(topic, 1000))
    place = TopicPartition(topic, 0)
    consumer = trial.consumer()
    consumer.assign([place])
    middle = consumer.end_offsets([place])[place] // 2
    for offset in (middle, middle + 1):  # one of the two is inside a batch
        trial.step(f"seeking to {offset}")
        consumer.seek(place, offset)
        expect("first offset after a seek", offset, first(consumer).offset)
    return "1000 records, 4 partitions"


def codecs(trial):
    for codec in (None, "gzip", "snappy", "lz4", "zstd"):
        trial.round_trip(numbered(trial.topic(1), 200), compression_type=codec)
    return "none gzip snappy lz4 zstd"


def auto_create(trial):
    trial.round_trip(numbered(unique("auto"), 10))
    return "10 records"


def acks(trial):
    for number in (0, 1, "all"):
        trial.round_trip(numbered(trial.topic(1), 200), acks=number, enable_idempotence=False)
    return "0, 1, all"


def long_poll(trial):
    topic = trial.topic(1)
    producer = trial.producer()
    consumer = trial.reader(topic, fetch_max_wait_ms=10000)
    acknowledged = []

    def send():
        producer.send(topic, b"late").get()
        acknowledged.append(time.monotonic())

    trial.step("polling an empty partition")
    expect("records in an empty partition", {}, consumer.poll(2000))
    trial.step("waiting for a record")
    later = threading.Timer(0.5, send)
    later.start()
    first(consumer)
    arrived = time.monotonic()
    later.join()
    delay = round((arrived - acknowledged[0]) * 1000)
    if delay > 5000:
        raise AssertionError(f"the record arrived {delay} ms after its acknowledgement")
    return f"arrival {delay} ms after the acknowledgement"


def big(trial):
    topic = trial.topic(1)
    trial.round_trip([record(topic, 0, bytes(900_000))])
    # idempotent, this client is done for after any refusal, whatever the broker
    producer = trial.producer(max_request_size=4_000_000, enable_idempotence=False)
    trial.step("producing 2 MB")
    expect_failure(lambda: producer.send(topic, bytes(2_000_000)).get(), MessageSizeTooLargeError)
    trial.step("producing after the refusal")
    expect("next offset", 1, producer.send(topic, b"small").get().offset)
    return "900 KB taken, 2 MB refused"


def idempotent(trial):
    topic = trial.topic(3)
    records = [{**one, "partition": i % 3} for i, one in enumerate(numbered(topic, 20_000))]
    trial.round_trip(records, max_in_flight_requests_per_connection=5)
    return "20000 records, 3 partitions"


def numbered(topic, count):
    """So many different records."""
    return [record(topic, i, b"value-%d" % i) for i in range(count)]


def record(topic, i, value):
    headers = [("name", b"number-%d" % i), ("name", b"")]
    return {"topic": topic, "key": b"key-%d" % i, "value": value, "headers": headers, "timestamp_ms": START + i}
