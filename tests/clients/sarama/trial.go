package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"github.com/IBM/sarama"
)

// The first timestamp in a topic: old enough to be nobody's clock, young enough not to be cleaned away.
var start = time.Now().Add(-time.Hour).Truncate(time.Millisecond)

// How long to wait before asking again.
const pause = 20 * time.Millisecond

// trial is one run of one scenario: what it can ask for, the step it is at,
// and the clients it opened, closed at its end.
type trial struct {
	ctx       context.Context
	bootstrap string
	opened    []io.Closer
	at        atomic.Value
	reason    string
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

// close closes the youngest first: the older may be what it needs.
func (t *trial) close() {
	for _, one := range slices.Backward(t.opened) {
		one.Close()
	}
}

// settings are the client's own, with the newest protocol that it speaks: by default it speaks an old one.
func settings() *sarama.Config {
	config := sarama.NewConfig()
	config.Version = sarama.MaxVersion
	config.Producer.Return.Successes = true
	config.Consumer.Return.Errors = true
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	return config
}

func (t *trial) client(config *sarama.Config) sarama.Client {
	client, err := sarama.NewClient([]string{t.bootstrap}, config)
	t.must(err)
	t.opened = append(t.opened, client)
	return client
}

func (t *trial) admin() sarama.ClusterAdmin {
	admin, err := sarama.NewClusterAdmin([]string{t.bootstrap}, settings())
	t.must(err)
	t.opened = append(t.opened, admin)
	return admin
}

func (t *trial) producer(change func(*sarama.Config)) sarama.SyncProducer {
	config := settings()
	change(config)
	producer, err := sarama.NewSyncProducer([]string{t.bootstrap}, config)
	t.must(err)
	t.opened = append(t.opened, producer)
	return producer
}

func unchanged(*sarama.Config) {}

func manual(config *sarama.Config) {
	config.Producer.Partitioner = sarama.NewManualPartitioner
}

// partition reads one partition from an offset.
func (t *trial) partition(topic string, partition int32, offset int64, change func(*sarama.Config)) sarama.PartitionConsumer {
	config := settings()
	change(config)
	consumer, err := sarama.NewConsumer([]string{t.bootstrap}, config)
	t.must(err)
	t.opened = append(t.opened, consumer)
	one, err := consumer.ConsumePartition(topic, partition, offset)
	t.must(err)
	t.opened = append(t.opened, one)
	return one
}

// next waits for a record.
func (t *trial) next(consumer sarama.PartitionConsumer) *sarama.ConsumerMessage {
	select {
	case record := <-consumer.Messages():
		return record
	case err := <-consumer.Errors():
		t.failf("%v", err)
	case <-t.ctx.Done():
		t.failf("no record came")
	}
	return nil
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
func (t *trial) create(admin sarama.ClusterAdmin, name string, partitions int32) {
	t.must(create(admin, name, partitions, false))
	t.eventually(func() bool { return t.describe(admin, name).Err == sarama.ErrNoError })
}

func create(admin sarama.ClusterAdmin, name string, partitions int32, validateOnly bool) error {
	return admin.CreateTopic(name, &sarama.TopicDetail{NumPartitions: partitions, ReplicationFactor: -1}, validateOnly)
}

func (t *trial) describe(admin sarama.ClusterAdmin, topic string) *sarama.TopicMetadata {
	topics, err := admin.DescribeTopics([]string{topic})
	t.must(err)
	return topics[0]
}

// eventually waits for what a cluster may show a little later.
func (t *trial) eventually(condition func() bool) {
	for !condition() {
		time.Sleep(pause)
	}
}

func (t *trial) send(producer sarama.SyncProducer, records ...*sarama.ProducerMessage) {
	t.step("producing %d records", len(records))
	t.must(producer.SendMessages(records))
}

// fill appends records of these values to a topic of one partition.
func (t *trial) fill(topic string, values ...string) {
	var records []*sarama.ProducerMessage
	for _, value := range values {
		records = append(records, &sarama.ProducerMessage{Topic: topic, Value: sarama.StringEncoder(value)})
	}
	t.send(t.producer(unchanged), records...)
}

// read reads the topic from its beginning to its end, where so many records must have come.
func (t *trial) read(topic string, count int) []*sarama.ConsumerMessage {
	client := t.client(settings())
	partitions, err := client.Partitions(topic)
	t.must(err)
	var records []*sarama.ConsumerMessage
	for _, partition := range partitions {
		end, err := client.GetOffset(topic, partition, sarama.OffsetNewest)
		t.must(err)
		if end == 0 {
			continue
		}
		consumer := t.partition(topic, partition, sarama.OffsetOldest, unchanged)
		for offset := int64(-1); offset < end-1; offset = records[len(records)-1].Offset {
			t.step("reading, %d of %d records so far", len(records), count)
			records = append(records, t.next(consumer))
		}
	}
	expect(t, "number of records", count, len(records))
	return records
}

// roundTrip sends the records to an empty topic and reads it. Each must be there once and unchanged,
// in the order of sending within its partition, and at the offset that was acknowledged.
func (t *trial) roundTrip(change func(*sarama.Config), records ...*sarama.ProducerMessage) []*sarama.ConsumerMessage {
	t.send(t.producer(change), records...)
	sent := map[int32]map[int64]string{}
	for _, r := range records {
		if sent[r.Partition] == nil {
			sent[r.Partition] = map[int64]string{}
		}
		expect(t, "acknowledged offset", int64(len(sent[r.Partition])), r.Offset)
		sent[r.Partition][r.Offset] = sentContent(r)
	}
	next := map[int32]int64{}
	read := t.read(records[0].Topic, len(records))
	for _, r := range read {
		expect(t, "offset", next[r.Partition], r.Offset)
		expect(t, "record", sent[r.Partition][r.Offset], readContent(r))
		next[r.Partition]++
	}
	return read
}

func sentContent(r *sarama.ProducerMessage) string {
	var key, value []byte
	if r.Key != nil {
		key, _ = r.Key.Encode()
	}
	if r.Value != nil {
		value, _ = r.Value.Encode()
	}
	return content(key, value, r.Headers, r.Timestamp)
}

func readContent(r *sarama.ConsumerMessage) string {
	headers := make([]sarama.RecordHeader, len(r.Headers))
	for i, header := range r.Headers {
		headers[i] = *header
	}
	return content(r.Key, r.Value, headers, r.Timestamp)
}

func content(key, value []byte, headers []sarama.RecordHeader, at time.Time) string {
	return fmt.Sprintf("%q = %q, headers %q, timestamp %d", key, value, headers, at.UnixMilli())
}
