"""What a scenario can ask for: clients, topics, round trips and checks."""

import contextlib
import time
import uuid

import kafka

# The first timestamp in a topic: old enough to be nobody's clock, young enough not to be cleaned away.
START = int(time.time() * 1000) - 3_600_000


class Trial(contextlib.ExitStack):
    """One run of one scenario: the step it is at, and the clients it opened, closed at its end."""

    def __init__(self, bootstrap):
        super().__init__()
        self.bootstrap = bootstrap
        self.at = "starting"

    def step(self, name):
        """Names what comes next, for the report of a failure."""
        self.at = name

    def admin(self):
        return self._opened(kafka.KafkaAdminClient, {})

    def producer(self, **changes):
        return self._opened(kafka.KafkaProducer, changes)

    def consumer(self, **changes):
        return self._opened(kafka.KafkaConsumer, changes)

    def reader(self, topic, **changes):
        """A consumer that stands at the beginning of all partitions of the topic."""
        consumer = self.consumer(**changes)
        places = [kafka.TopicPartition(topic, p) for p in consumer.partitions_for_topic(topic)]
        consumer.assign(places)
        consumer.seek_to_beginning()
        return consumer

    def _opened(self, client, changes):
        return self.enter_context(contextlib.closing(client(bootstrap_servers=self.bootstrap, **changes)))

    def topic(self, partitions):
        """Creates a topic with a new name."""
        self.step("creating a topic")
        name = unique("topic")
        create(self.admin(), name, partitions)
        return name

    def send(self, producer, records):
        """Sends the records, given as the arguments of `send`, and returns what was acknowledged for each."""
        self.step(f"producing {len(records)} records")
        pending = [producer.send(**record) for record in records]
        producer.flush()
        return [one.get() for one in pending]

    def fill(self, topic, *values):
        """Fills partition 0 of the topic with records of these values."""
        self.send(self.producer(), [{"topic": topic, "partition": 0, "value": value} for value in values])

    def read(self, consumer, count):
        """Reads from where the consumer stands to the end, where so many records must have come."""
        places = consumer.assignment()
        ends = consumer.end_offsets(places)
        records = []
        while len(records) < count or any(consumer.position(place) < ends[place] for place in places):
            self.step(f"reading, {len(records)} of {count} records so far")
            for batch in consumer.poll(100).values():
                records += batch
        expect("number of records", count, len(records))
        return records

    def round_trip(self, records, **producer_changes):
        """Sends the records to an empty topic and reads it. Each must be there once and unchanged,
        in the order of sending within its partition, and at the offset that was acknowledged."""
        sent = {}
        for record, place in zip(records, self.send(self.producer(**producer_changes), records)):
            log = sent.setdefault(place.partition, [])
            if producer_changes.get("acks") != 0:
                expect("acknowledged offset", len(log), place.offset)
            log.append((record["key"], record["value"], record["headers"], record["timestamp_ms"]))
        following = dict.fromkeys(sent, 0)
        for record in self.read(self.reader(records[0]["topic"]), len(records)):
            offset = following[record.partition]
            expect("offset", offset, record.offset)
            content = (record.key, record.value, list(record.headers), record.timestamp)
            expect("record", sent[record.partition][offset], content)
            following[record.partition] += 1


def unique(what):
    return f"{what}-{uuid.uuid4()}"


def create(admin, name, partitions):
    """Creates a topic and waits until the broker shows it."""
    admin.create_topics({name: {"num_partitions": partitions}}, wait_for_metadata=True)


def describe(admin, topic):
    return admin.describe_topics([topic])[0]


def first(consumer):
    while True:
        for batch in consumer.poll(100).values():
            return batch[0]


def expect(what, expected, actual):
    if expected != actual:
        raise AssertionError(f"{what}: expected {repr(expected):.300}, got {repr(actual):.300}")


def expect_failure(action, *expected):
    try:
        outcome = action()
    except expected:
        return
    raise AssertionError(f"expected one of {expected}, got {outcome}")
