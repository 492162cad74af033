package main

import (
	"crypto/rand"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func produceConsume(t *trial) string {
	topic := t.topic(4)
	read := t.roundTrip(nil, numbered(topic, 1000)...)
	last := read[len(read)-1]
	middle := last.Offset / 2
	for _, offset := range []int64{middle, middle + 1} { // one of the two is inside a batch
		t.step("starting at %d", offset)
		client := t.client(from(topic, last.Partition, offset))
		expect(t, "first offset", offset, t.poll(client)[0].Offset)
	}
	return "1000 records, 4 partitions"
}

func codecs(t *trial) string {
	all := []kgo.CompressionCodec{
		kgo.NoCompression(), kgo.GzipCompression(), kgo.SnappyCompression(), kgo.Lz4Compression(), kgo.ZstdCompression(),
	}
	for number, codec := range all {
		producer := []kgo.Opt{kgo.ProducerBatchCompression(codec)}
		for _, r := range t.roundTrip(producer, numbered(t.topic(1), 200)...) {
			expect(t, "codec of the stored batch", uint8(number), r.Attrs.CompressionType())
		}
	}
	return "none gzip snappy lz4 zstd"
}

func autoCreate(t *trial) string {
	t.roundTrip([]kgo.Opt{kgo.AllowAutoTopicCreation()}, numbered(unique("auto"), 10)...)
	return "10 records"
}

func acks(t *trial) string {
	for _, acks := range []kgo.Acks{kgo.LeaderAck(), kgo.AllISRAcks()} {
		producer := []kgo.Opt{kgo.RequiredAcks(acks), kgo.DisableIdempotentWrite()}
		t.roundTrip(producer, numbered(t.topic(1), 200)...)
	}
	topic := t.topic(1)
	records := numbered(topic, 200)
	t.send(t.client(kgo.RequiredAcks(kgo.NoAck()), kgo.DisableIdempotentWrite()), records...)
	for i, r := range t.read(topic, 200) {
		expect(t, "record", content(records[i]), content(r))
	}
	return "0, 1, all"
}

// fetchCounter counts the fetch requests of a client.
type fetchCounter struct{ requests atomic.Int64 }

func (c *fetchCounter) OnBrokerWrite(_ kgo.BrokerMetadata, key int16, _ int, _, _ time.Duration, _ error) {
	if key == kmsg.Fetch.Int16() {
		c.requests.Add(1)
	}
}

func longPoll(t *trial) string {
	topic := t.topic(1)
	counter := new(fetchCounter)
	producer := t.client()
	consumer := t.client(from(topic, 0, 0), kgo.FetchMaxWait(10*time.Second), kgo.WithHooks(counter))

	t.step("waiting for a record")
	acknowledged := make(chan time.Time, 1)
	time.AfterFunc(2500*time.Millisecond, func() {
		producer.ProduceSync(t.ctx, &kgo.Record{Topic: topic, Value: []byte("late")})
		acknowledged <- time.Now()
	})
	expect(t, "value", "late", string(t.poll(consumer)[0].Value))
	delay := time.Since(<-acknowledged)
	if delay > 5*time.Second {
		t.failf("the record arrived %v after its acknowledgement", delay)
	}
	requests := counter.requests.Load()
	if requests > 6 {
		t.failf("%d fetch requests in 2.5 s", requests)
	}
	return fmt.Sprintf(
		"%d fetch requests in 2.5 s, arrival %d ms after the acknowledgement", requests, delay.Milliseconds())
}

func big(t *trial) string {
	topic := t.topic(1)
	t.roundTrip(nil, &kgo.Record{Topic: topic, Timestamp: start, Key: []byte("key"), Value: noise(900_000)})
	client := t.client(kgo.ProducerBatchMaxBytes(4_000_000))
	t.step("producing 2 MB")
	_, err := client.ProduceSync(t.ctx, &kgo.Record{Topic: topic, Value: noise(2_000_000)}).First()
	t.mustFail(err, kerr.MessageTooLarge)
	t.step("producing after the refusal")
	small, err := client.ProduceSync(t.ctx, &kgo.Record{Topic: topic, Value: []byte("small")}).First()
	t.must(err)
	expect(t, "next offset", 1, small.Offset)
	return "900 KB taken, 2 MB refused"
}

// noise returns bytes that no codec makes smaller.
func noise(length int) []byte {
	bytes := make([]byte, length)
	rand.Read(bytes)
	return bytes
}

func idempotent(t *trial) string {
	topic := t.topic(3)
	records := numbered(topic, 20_000)
	for i, r := range records {
		r.Partition = int32(i % 3)
	}
	t.roundTrip([]kgo.Opt{ // idempotence, with five requests in flight, is the default
		kgo.ProducerBatchMaxBytes(16_384), // many batches
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
	}, records...)
	return "20000 records, 3 partitions"
}

// numbered returns so many different records.
func numbered(topic string, count int) []*kgo.Record {
	records := make([]*kgo.Record, count)
	for i := range records {
		records[i] = &kgo.Record{
			Topic:     topic,
			Timestamp: start.Add(time.Duration(i) * time.Millisecond),
			Key:       fmt.Appendf(nil, "key-%d", i),
			Value:     fmt.Appendf(nil, "value-%d", i),
			Headers:   []kgo.RecordHeader{{Key: "name", Value: fmt.Appendf(nil, "number-%d", i)}, {Key: "name"}},
		}
	}
	return records
}

// from consumes one partition from an offset.
func from(topic string, partition int32, offset int64) kgo.Opt {
	return kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {partition: kgo.NewOffset().At(offset)}})
}
