"""What a scenario can ask for: clients, topics, round trips and checks."""

import asyncio
import contextlib
import time
import uuid

import aiokafka
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import for_code

# The first timestamp in a topic: old enough to be nobody's clock, young enough not to be cleaned away.
START = int(time.time() * 1000) - 3_600_000


class Trial(contextlib.AsyncExitStack):
    """One run of one scenario: the step it is at, and the clients it opened, closed at its end."""

    def __init__(self, bootstrap):
        super().__init__()
        self.bootstrap = bootstrap
        self.at = "starting"

    def step(self, name):
        """Names what comes next, for the report of a failure."""
        self.at = name

    async def admin(self):
        client = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
        self.push_async_callback(client.close)
        await client.start()
        return client

    async def producer(self, **changes):
        return await self._started(aiokafka.AIOKafkaProducer(bootstrap_servers=self.bootstrap, **changes))

    async def consumer(self, *topics, **changes):
        return await self._started(aiokafka.AIOKafkaConsumer(*topics, bootstrap_servers=self.bootstrap, **changes))

    async def reader(self, topic, **changes):
        """A consumer that stands at the beginning of all partitions of the topic."""
        partitions = (await describe(await self.admin(), topic))["partitions"]
        consumer = await self.consumer(**changes)
        consumer.assign([aiokafka.TopicPartition(topic, one["partition"]) for one in partitions])
        await consumer.seek_to_beginning()
        return consumer

    async def _started(self, client):
        self.push_async_callback(stop, client)
        await client.start()
        return client

    async def topic(self, partitions):
        """Creates a topic with a new name."""
        self.step("creating a topic")
        name = unique("topic")
        await create(await self.admin(), name, partitions)
        return name

    async def send(self, producer, records):
        """Sends the records, given as the arguments of `send`, and returns what was acknowledged for each."""
        self.step(f"producing {len(records)} records")
        pending = [await producer.send(**record) for record in records]
        return await asyncio.gather(*pending)

    async def fill(self, topic, *values):
        """Fills partition 0 of the topic with records of these values."""
        await self.send(await self.producer(), [{"topic": topic, "partition": 0, "value": value} for value in values])

    async def read(self, consumer, count):
        """Reads from where the consumer stands to the end, where so many records must have come."""
        places = consumer.assignment()
        ends = await consumer.end_offsets(places)
        records = []
        while len(records) < count or any([await consumer.position(place) < ends[place] for place in places]):
            self.step(f"reading, {len(records)} of {count} records so far")
            for batch in (await consumer.getmany(timeout_ms=100)).values():
                records += batch
        expect("number of records", count, len(records))
        return records

    async def round_trip(self, records, **producer_changes):
        """Sends the records to an empty topic and reads it. Each must be there once and unchanged,
        in the order of sending within its partition, and at the offset that was acknowledged."""
        sent = {}
        for record, place in zip(records, await self.send(await self.producer(**producer_changes), records)):
            # without acknowledgements nobody knows the place; such topics have one partition
            log = sent.setdefault(place.partition if place else 0, [])
            if place:
                expect("acknowledged offset", len(log), place.offset)
            log.append((record["key"], record["value"], record["headers"], record["timestamp_ms"]))
        following = dict.fromkeys(sent, 0)
        for record in await self.read(await self.reader(records[0]["topic"]), len(records)):
            offset = following[record.partition]
            expect("offset", offset, record.offset)
            content = (record.key, record.value, list(record.headers), record.timestamp)
            expect("record", sent[record.partition][offset], content)
            following[record.partition] += 1


async def stop(client):
    """Stops it. If a fetch has just failed, this client cancels the wait before the next one and then falls over that itself."""
    stopping = asyncio.ensure_future(client.stop())
    await asyncio.wait([stopping])
    if not stopping.cancelled():
        stopping.result()


def unique(what):
    return f"{what}-{uuid.uuid4()}"


async def create(admin, name, partitions):
    """Creates a topic and waits until the broker shows it."""
    await create_only(admin, name, partitions)
    await eventually(lambda: exists(admin, name))


async def create_only(admin, name, partitions, **options):
    raise_for((await admin.create_topics([NewTopic(name, partitions, 1)], **options)).topic_errors)


def raise_for(answers):
    """The client returns errors: (topic, code, ...)."""
    for answer in answers:
        if answer[1]:
            raise for_code(answer[1])(answer[0])


async def describe(admin, topic):
    return (await admin.describe_topics([topic]))[0]


async def exists(admin, topic):
    return topic in await admin.list_topics()  # describing it would create it


async def eventually(condition):
    while not await condition():
        await asyncio.sleep(0.02)


def expect(what, expected, actual):
    if expected != actual:
        raise AssertionError(f"{what}: expected {repr(expected):.300}, got {repr(actual):.300}")


async def expect_failure(action, *expected):
    try:
        outcome = await action
    except expected:
        return
    raise AssertionError(f"expected one of {expected}, got {outcome}")
