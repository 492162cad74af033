package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func produceConsume(t *trial) string {
	topic := t.topic(4)
	read := t.roundTrip(nil, numbered(topic, 1000)...)
	partition := read[0].Partition
	var end int64
	for _, r := range read {
		if r.Partition == partition {
			end = r.Offset + 1
		}
	}
	for offset := end / 2; offset < end/2+2; offset++ { // one of the two is inside a batch
		t.step("starting in partition %d at %d", partition, offset)
		expect(t, "first offset", offset, t.poll(t.client(consume(topic, partition, offset)))[0].Offset)
	}
	return "1000 records, 4 partitions"
}

func codecs(t *trial) string {
	options := []kgo.CompressionCodec{
		kgo.NoCompression(), kgo.GzipCompression(), kgo.SnappyCompression(), kgo.Lz4Compression(), kgo.ZstdCompression(),
	}
	for number, codec := range options {
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
	t.send(t.client(kgo.RequiredAcks(kgo.NoAck()), kgo.DisableIdempotentWrite()), numbered(topic, 200)...)
	t.read(topic, 200)
	return "0, 1, all"
}
