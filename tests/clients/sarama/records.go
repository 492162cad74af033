package main

import (
	"crypto/rand"
	"fmt"
	"time"

	"github.com/IBM/sarama"
)

func produceConsume(t *trial) string {
	topic := t.topic(4)
	read := t.roundTrip(unchanged, numbered(topic, 1000)...)
	last := read[len(read)-1]
	middle := last.Offset / 2
	for _, offset := range []int64{middle, middle + 1} { // one of the two is inside a batch
		t.step("starting at %d", offset)
		expect(t, "first offset", offset, t.next(t.partition(topic, last.Partition, offset, unchanged)).Offset)
	}
	return "1000 records, 4 partitions"
}

func codecs(t *trial) string {
	for codec := sarama.CompressionNone; codec <= sarama.CompressionZSTD; codec++ {
		compressed := func(config *sarama.Config) { config.Producer.Compression = codec }
		t.roundTrip(compressed, numbered(t.topic(1), 200)...)
	}
	return "none gzip snappy lz4 zstd"
}

func autoCreate(t *trial) string {
	t.roundTrip(unchanged, numbered(unique("auto"), 10)...)
	return "10 records"
}

func acks(t *trial) string {
	for _, acks := range []sarama.RequiredAcks{sarama.WaitForLocal, sarama.WaitForAll} {
		t.roundTrip(func(config *sarama.Config) { config.Producer.RequiredAcks = acks }, numbered(t.topic(1), 200)...)
	}
	topic := t.topic(1)
	records := numbered(topic, 200)
	t.send(t.producer(func(config *sarama.Config) { config.Producer.RequiredAcks = sarama.NoResponse }), records...)
	consumer := t.partition(topic, 0, 0, unchanged)
	for i, r := range records {
		t.step("reading, %d of 200 records so far", i)
		expect(t, "record", sentContent(r), readContent(t.next(consumer)))
	}
	return "0, 1, all"
}

func longPoll(t *trial) string {
	topic := t.topic(1)
	producer := t.producer(unchanged)
	consumer := t.partition(topic, 0, 0, func(config *sarama.Config) { config.Consumer.MaxWaitTime = 10 * time.Second })

	t.step("waiting for a record")
	acknowledged := make(chan time.Time, 1)
	time.AfterFunc(2500*time.Millisecond, func() {
		_, _, _ = producer.SendMessage(&sarama.ProducerMessage{Topic: topic, Value: sarama.StringEncoder("late")})
		acknowledged <- time.Now()
	})
	expect(t, "value", "late", string(t.next(consumer).Value))
	delay := time.Since(<-acknowledged)
	if delay > 5*time.Second {
		t.failf("the record arrived %v after its acknowledgement", delay)
	}
	return fmt.Sprintf("arrival %d ms after the acknowledgement", delay.Milliseconds())
}

func big(t *trial) string {
	topic := t.topic(1)
	t.roundTrip(unchanged, &sarama.ProducerMessage{
		Topic: topic, Timestamp: start, Key: sarama.StringEncoder("key"), Value: noise(900_000)})
	producer := t.producer(func(config *sarama.Config) { config.Producer.MaxMessageBytes = 4_000_000 })
	t.step("producing 2 MB")
	_, _, err := producer.SendMessage(&sarama.ProducerMessage{Topic: topic, Value: noise(2_000_000)})
	t.mustFail(err, sarama.ErrMessageSizeTooLarge)
	t.step("producing after the refusal")
	_, offset, err := producer.SendMessage(&sarama.ProducerMessage{Topic: topic, Value: sarama.StringEncoder("small")})
	t.must(err)
	expect(t, "next offset", 1, offset)
	return "900 KB taken, 2 MB refused"
}

// noise returns bytes that no codec makes smaller.
func noise(length int) sarama.ByteEncoder {
	bytes := make([]byte, length)
	rand.Read(bytes)
	return bytes
}

func idempotent(t *trial) string {
	records := numbered(t.topic(3), 20_000)
	for i, r := range records {
		r.Partition = int32(i % 3)
	}
	t.roundTrip(func(config *sarama.Config) {
		manual(config)
		config.Producer.Idempotent = true
		config.Producer.RequiredAcks = sarama.WaitForAll
		config.Net.MaxOpenRequests = 1 // the client insists
		config.Producer.Flush.Messages = 500
		config.Producer.Flush.Frequency = 50 * time.Millisecond
	}, records...)
	return "20000 records, 3 partitions"
}

// numbered returns so many different records.
func numbered(topic string, count int) []*sarama.ProducerMessage {
	records := make([]*sarama.ProducerMessage, count)
	for i := range records {
		records[i] = &sarama.ProducerMessage{
			Topic:     topic,
			Timestamp: start.Add(time.Duration(i) * time.Millisecond),
			Key:       sarama.StringEncoder(fmt.Sprintf("key-%d", i)),
			Value:     sarama.StringEncoder(fmt.Sprintf("value-%d", i)),
			Headers: []sarama.RecordHeader{
				{Key: []byte("name"), Value: fmt.Appendf(nil, "number-%d", i)}, {Key: []byte("name"), Value: []byte{}}},
		}
	}
	return records
}
