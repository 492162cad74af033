package main

import (
	"errors"
	"time"

	"github.com/IBM/sarama"
)

func listOffsets(t *trial) string {
	topic := t.topic(1)
	var records []*sarama.ProducerMessage
	for _, seconds := range []time.Duration{0, 1, 3, 2} {
		records = append(records, &sarama.ProducerMessage{Topic: topic, Timestamp: start.Add(seconds * time.Second)})
	}
	t.send(t.producer(unchanged), records...)

	admin := t.admin()
	check := func(what string, at, want int64) {
		t.step("asking for %s", what)
		found, err := admin.ListOffsets(map[string]map[int32]int64{topic: {0: at}}, nil)
		t.must(err)
		t.mustFail(found[topic][0].Err, sarama.ErrNoError)
		expect(t, what, want, found[topic][0].Offset)
	}
	check("earliest", sarama.OffsetOldest, 0)
	check("latest", sarama.OffsetNewest, 4)
	check("between two records", start.UnixMilli()+500, 1)
	check("exactly at a record", start.UnixMilli()+1000, 1)
	check("out of order", start.UnixMilli()+1500, 2)
	check("after the end", start.UnixMilli()+3001, -1)
	return "earliest, latest, timestamps"
}

func committedOffsets(t *trial) string {
	topic := t.topic(1)
	t.fill(topic, "a", "b", "c", "d")
	group := unique("group")

	t.step("committing")
	commits, err := sarama.NewOffsetManagerFromClient(group, t.client(settings()))
	t.must(err)
	place, err := commits.ManagePartition(topic, 0)
	t.must(err)
	place.MarkOffset(2, "a note")
	commits.Commit()
	place.AsyncClose()
	t.must(commits.Close())

	t.step("reading the commit back")
	again, err := sarama.NewOffsetManagerFromClient(group, t.client(settings()))
	t.must(err)
	found, err := again.ManagePartition(topic, 0)
	t.must(err)
	offset, metadata := found.NextOffset()
	expect(t, "offset", 2, offset)
	expect(t, "metadata", "a note", metadata)
	found.AsyncClose()
	t.must(again.Close())

	t.step("resuming")
	expect(t, "value", "c", string(t.next(t.partition(topic, 0, offset, unchanged)).Value))

	t.step("asking for an unknown group")
	admin := t.admin()
	none, err := admin.ListConsumerGroupOffsets(unique("group"), nil)
	t.must(err)
	expect(t, "number of topics", 0, len(none.Blocks))
	none, err = admin.ListConsumerGroupOffsets(unique("group"), map[string][]int32{topic: {0}})
	t.must(err)
	expect(t, "offset", -1, none.GetBlock(topic, 0).Offset)
	return "offset 2 of 4 with metadata"
}

func outOfRange(t *trial) string {
	topic := t.topic(1)
	t.fill(topic, "a", "b")

	t.step("starting beyond the end") // which the client finds out by asking for the end
	consumer, err := sarama.NewConsumer([]string{t.bootstrap}, settings())
	t.must(err)
	t.opened = append(t.opened, consumer)
	_, err = consumer.ConsumePartition(topic, 0, 100)
	if !errors.Is(err, sarama.ErrOffsetOutOfRange) {
		t.failf("expected %v, got %v", sarama.ErrOffsetOutOfRange, err)
	}

	t.step("starting at the earliest")
	expect(t, "first offset", 0, t.next(t.partition(topic, 0, sarama.OffsetOldest, unchanged)).Offset)
	return "none, earliest"
}
