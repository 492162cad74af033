"""Scenarios about finding and keeping offsets."""

from kafka import OffsetAndMetadata, TopicPartition
from kafka.admin import OffsetSpec
from kafka.errors import OffsetOutOfRangeError

from trial import START, expect, expect_failure, first, unique


def list_offsets(trial):
    topic = trial.topic(1)
    place = TopicPartition(topic, 0)
    trial.send(trial.producer(), [
        {"topic": topic, "value": b"v", "timestamp_ms": START + delay} for delay in (0, 1000, 3000, 2000)])

    trial.step("asking with an admin client")
    admin = trial.admin()
    for what, spec, offset in (
        ("earliest", OffsetSpec.EARLIEST, 0),
        ("latest", OffsetSpec.LATEST, 4),
        ("between two records", START + 500, 1),
        ("exactly at a record", START + 1000, 1),
        ("out of order", START + 1500, 2),
        ("after the end", START + 3001, -1),
        ("max timestamp", OffsetSpec.MAX_TIMESTAMP, 2),
    ):
        expect(what, offset, admin.list_partition_offsets({place: spec})[place].offset)

    trial.step("asking with a consumer")
    consumer = trial.consumer()
    expect("beginning", {place: 0}, consumer.beginning_offsets([place]))
    expect("end", {place: 4}, consumer.end_offsets([place]))
    found = consumer.offsets_for_times({place: START + 500})[place]
    expect("offset and timestamp", (1, START + 1000), (found.offset, found.timestamp))
    expect("after the end", None, consumer.offsets_for_times({place: START + 3001})[place])
    return "earliest, latest, timestamps, max timestamp"


def committed_offsets(trial):
    topic = trial.topic(1)
    trial.fill(topic, b"a", b"b", b"c", b"d")
    place = TopicPartition(topic, 0)
    group = {"group_id": unique("group"), "enable_auto_commit": False}

    trial.step("committing")
    committing = trial.consumer(**group)
    committing.assign([place])
    commit = OffsetAndMetadata(2, "a note")
    committing.commit({place: commit})

    trial.step("reading the commit back")
    resuming = trial.consumer(**group)
    expect("commit", commit, resuming.committed(place, metadata=True))

    trial.step("resuming")
    resuming.assign([place])
    expect("value", b"c", first(resuming).value)

    trial.step("asking for an unknown group")
    expect("commit", None, trial.consumer(group_id=unique("group")).committed(place))
    unknown = unique("group")
    expect("offsets", {unknown: {}}, trial.admin().list_group_offsets(unknown))
    return "offset 2 of 4 with metadata"


def out_of_range(trial):
    topic = trial.topic(1)
    trial.fill(topic, b"a", b"b")
    place = TopicPartition(topic, 0)

    trial.step("fetching without a reset")
    strict = trial.reader(topic, auto_offset_reset="none")
    strict.seek(place, 100)
    expect_failure(lambda: first(strict), OffsetOutOfRangeError)

    trial.step("fetching with a reset to the earliest")
    lenient = trial.reader(topic, auto_offset_reset="earliest")
    lenient.seek(place, 100)
    expect("first offset", 0, first(lenient).offset)
    return "none, earliest"
