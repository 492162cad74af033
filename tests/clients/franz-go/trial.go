package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// The first timestamp in a topic: old enough to be nobody's clock, young enough not to be cleaned away.
var start = time.Now().Add(-time.Hour).Truncate(time.Millisecond)

// How long to wait before asking again.
const pause = 20 * time.Millisecond

// trial is one run of one scenario: what it can ask for, the step it is at,
// and the clients it opened, closed at its end.
type trial struct {
	ctx     context.Context
	options []kgo.Opt
	clients []*kgo.Client
	at      atomic.Value
	reason  string
}

// step names what comes next, for the report of a failure.
func (t *trial) step(format string, values ...any) {
	t.at.Store(fmt.Sprintf(format, values...))
}

// failf ends the scenario, and with it its goroutine.
func (t *trial) failf(format string, values ...any) {
	t.reason = fmt.Sprintf(format, values...)
	runtime.Goexit()
}

func (t *trial) must(err error) {
	if err != nil {
		t.failf("%v", err)
	}
}

// mustFail takes one of the wanted errors.
func (t *trial) mustFail(err error, wanted ...error) {
	if !slices.ContainsFunc(wanted, func(want error) bool { return errors.Is(err, want) }) {
		t.failf("expected one of %v, got %v", wanted, err)
	}
}

func expect[T comparable](t *trial, what string, want, got T) {
	if want != got {
		t.failf("%s: expected %.300s, got %.300s", what, fmt.Sprint(want), fmt.Sprint(got))
	}
}

func (t *trial) close() {
	for _, client := range t.clients {
		client.Close()
	}
}

func (t *trial) client(options ...kgo.Opt) *kgo.Client {
	// By default the client asks for metadata again only after 5 s, even if a topic is new.
	options = append(options, kgo.MetadataMinAge(pause))
	client, err := kgo.NewClient(append(options, t.options...)...)
	t.must(err)
	t.clients = append(t.clients, client)
	return client
}

func (t *trial) admin() *kadm.Client {
	return kadm.NewClient(t.client())
}

func unique(what string) string {
	return what + "-" + rand.Text()
}

// topic creates a topic with a new name.
func (t *trial) topic(partitions int32) string {
	t.step("creating a topic")
	name := unique("topic")
	t.create(t.admin(), name, partitions)
	return name
}

// create creates a topic and waits until the broker shows it.
func (t *trial) create(admin *kadm.Client, name string, partitions int32) {
	_, err := admin.CreateTopic(t.ctx, partitions, -1, nil, name)
	t.must(err)
	t.eventually(func() bool { return t.describe(admin, name).Err == nil })
}

func (t *trial) describe(admin *kadm.Client, topic string) kadm.TopicDetail {
	topics, err := admin.ListTopics(t.ctx, topic)
	t.must(err)
	return topics[topic]
}

// eventually waits for what a cluster may show a little later.
func (t *trial) eventually(condition func() bool) {
	for !condition() {
		time.Sleep(pause)
	}
}

func (t *trial) send(client *kgo.Client, records ...*kgo.Record) {
	t.step("producing %d records", len(records))
	t.must(client.ProduceSync(t.ctx, records...).FirstErr())
}

// fill appends records of these values to a topic of one partition.
func (t *trial) fill(topic string, values ...string) {
	var records []*kgo.Record
	for _, value := range values {
		records = append(records, &kgo.Record{Topic: topic, Value: []byte(value)})
	}
	t.send(t.client(), records...)
}

// poll returns the next records, at least one.
func (t *trial) poll(client *kgo.Client) []*kgo.Record {
	fetches := client.PollFetches(t.ctx)
	t.must(fetches.Err())
	return fetches.Records()
}

// read reads the topic from its beginning to its end, where so many records must have come.
func (t *trial) read(topic string, count int) []*kgo.Record {
	ends, err := t.admin().ListEndOffsets(t.ctx, topic)
	t.must(err)
	t.must(ends.Error())
	var behind int64
	ends.Each(func(end kadm.ListedOffset) { behind += end.Offset })

	client := t.client(kgo.ConsumeTopics(topic))
	var records []*kgo.Record
	for len(records) < count || int64(len(records)) < behind {
		t.step("reading, %d of %d records so far", len(records), count)
		records = append(records, t.poll(client)...)
	}
	expect(t, "number of records", count, len(records))
	return records
}

// roundTrip sends the records to an empty topic and reads it. Each must be there once and unchanged,
// in the order of sending within its partition, and at the offset that was acknowledged.
func (t *trial) roundTrip(producer []kgo.Opt, records ...*kgo.Record) []*kgo.Record {
	t.send(t.client(producer...), records...)
	sent := map[int32][]string{}
	for _, r := range records {
		expect(t, "acknowledged offset", int64(len(sent[r.Partition])), r.Offset)
		sent[r.Partition] = append(sent[r.Partition], content(r))
	}
	next := map[int32]int64{}
	read := t.read(records[0].Topic, len(records))
	for _, r := range read {
		expect(t, "offset", next[r.Partition], r.Offset)
		expect(t, "record", sent[r.Partition][r.Offset], content(r))
		next[r.Partition]++
	}
	return read
}

func content(r *kgo.Record) string {
	return fmt.Sprintf("%q = %q, headers %#v, timestamp %d", r.Key, r.Value, r.Headers, r.Timestamp.UnixMilli())
}
