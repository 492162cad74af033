package main

import (
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

func listOffsets(t *trial) string {
	topic := t.topic(1)
	var records []*kgo.Record
	for _, seconds := range []time.Duration{0, 1, 3, 2} {
		records = append(records, &kgo.Record{Topic: topic, Timestamp: start.Add(seconds * time.Second)})
	}
	t.send(t.client(), records...)

	t.step("listing offsets")
	admin := t.admin()
	check := func(what string, want int64) func(kadm.ListedOffsets, error) {
		return func(listed kadm.ListedOffsets, err error) {
			t.must(err)
			found, _ := listed.Lookup(topic, 0)
			t.must(found.Err)
			expect(t, what, want, found.Offset)
		}
	}
	after := func(millis int64) (kadm.ListedOffsets, error) {
		return admin.ListOffsetsAfterMilli(t.ctx, start.UnixMilli()+millis, topic)
	}
	check("earliest", 0)(admin.ListStartOffsets(t.ctx, topic))
	check("latest", 4)(admin.ListEndOffsets(t.ctx, topic))
	check("between two records", 1)(after(500))
	check("exactly at a record", 1)(after(1000))
	check("out of order", 2)(after(1500))
	check("after the end", 4)(after(3001)) // the client puts the end in place of -1
	check("max timestamp", 2)(admin.ListMaxTimestampOffsets(t.ctx, topic))
	return "earliest, latest, timestamps, max timestamp"
}

func committedOffsets(t *trial) string {
	topic := t.topic(1)
	t.fill(topic, "a", "b", "c", "d")
	group := unique("group")

	t.step("committing")
	commit := kadm.Offset{Topic: topic, At: 2, LeaderEpoch: -1, Metadata: "a note"}
	t.must(t.admin().CommitAllOffsets(t.ctx, group, kadm.Offsets{topic: {0: commit}}))

	t.step("reading the commit back")
	admin := t.admin()
	commits, err := admin.FetchOffsets(t.ctx, group)
	t.must(err)
	found, _ := commits.Lookup(topic, 0)
	t.must(found.Err)
	expect(t, "offset", 2, found.At)
	expect(t, "metadata", "a note", found.Metadata)

	t.step("resuming")
	client := t.client(kgo.ConsumePartitions(commits.KOffsets()))
	expect(t, "value", "c", string(t.poll(client)[0].Value))

	t.step("asking for an unknown group")
	none, err := admin.FetchOffsets(t.ctx, unique("group"))
	t.must(err)
	expect(t, "number of commits", 0, len(none))
	none, err = admin.FetchOffsetsForTopics(t.ctx, unique("group"), topic)
	t.must(err)
	missing, _ := none.Lookup(topic, 0)
	t.must(missing.Err)
	expect(t, "offset", -1, missing.At)
	return "offset 2 of 4 with metadata"
}

func outOfRange(t *trial) string {
	topic := t.topic(1)
	t.fill(topic, "a", "b")

	t.step("fetching without a reset")
	strict := t.client(from(topic, 0, 100), kgo.ConsumeResetOffset(kgo.NoResetOffset()))
	t.mustFail(strict.PollFetches(t.ctx).Err(), kerr.OffsetOutOfRange)

	t.step("fetching with a reset to the earliest")
	lenient := t.client(from(topic, 0, 100), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	expect(t, "first offset", 0, t.poll(lenient)[0].Offset)
	return "none, earliest"
}
