"""Scenarios about finding and keeping offsets."""

from aiokafka import TopicPartition
from aiokafka.errors import OffsetOutOfRangeError
from aiokafka.structs import OffsetAndMetadata

from trial import START, expect, expect_failure, unique


async def list_offsets(trial):
    topic = await trial.topic(1)
    place = TopicPartition(topic, 0)
    await trial.send(await trial.producer(), [
        {"topic": topic, "value": b"v", "timestamp_ms": START + delay} for delay in (0, 1000, 3000, 2000)])

    trial.step("asking with a consumer")
    consumer = await trial.consumer()
    expect("beginning", {place: 0}, await consumer.beginning_offsets([place]))
    expect("end", {place: 4}, await consumer.end_offsets([place]))
    for what, delay, expected in (
        ("between two records", 500, (1, START + 1000)),
        ("exactly at a record", 1000, (1, START + 1000)),
        ("out of order", 1500, (2, START + 3000)),
        ("after the end", 3001, None),
    ):
        found = (await consumer.offsets_for_times({place: START + delay}))[place]
        expect(what, expected, found and (found.offset, found.timestamp))
    return "earliest, latest, timestamps"


async def committed_offsets(trial):
    topic = await trial.topic(1)
    await trial.fill(topic, b"a", b"b", b"c", b"d")
    place = TopicPartition(topic, 0)
    name = unique("group")
    group = {"group_id": name, "enable_auto_commit": False}

    trial.step("committing")
    committing = await trial.consumer(**group)
    committing.assign([place])
    await committing.commit({place: (2, "a note")})

    trial.step("reading the commit back")
    admin = await trial.admin()
    expect("commits", {place: OffsetAndMetadata(2, "a note")}, await admin.list_consumer_group_offsets(name))

    trial.step("resuming")
    resuming = await trial.consumer(**group)
    resuming.assign([place])
    expect("commit", 2, await resuming.committed(place))
    expect("value", b"c", (await resuming.getone()).value)

    trial.step("asking for an unknown group")
    other = await trial.consumer(group_id=unique("group"))
    other.assign([place])
    expect("commit", None, await other.committed(place))
    expect("offsets", {}, await admin.list_consumer_group_offsets(unique("group")))
    return "offset 2 of 4 with metadata"


async def out_of_range(trial):
    topic = await trial.topic(1)
    await trial.fill(topic, b"a", b"b")
    place = TopicPartition(topic, 0)

    trial.step("fetching without a reset")
    strict = await trial.reader(topic, auto_offset_reset="none")
    strict.seek(place, 100)
    await expect_failure(strict.getone(), OffsetOutOfRangeError)

    trial.step("fetching with a reset to the earliest")
    lenient = await trial.reader(topic, auto_offset_reset="earliest")
    lenient.seek(place, 100)
    expect("first offset", 0, (await lenient.getone()).offset)
    return "none, earliest"
