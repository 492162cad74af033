package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// produceSteadily sends until its standard input ends, and tells what became of each record.
func produceSteadily(options []kgo.Opt, topic string, rate int) error {
	// Else a connection that ends before its first answer, as behind a balancer while an agent is rolled, gives up all records.
	client, err := kgo.NewClient(append(options, kgo.DefaultProduceTopic(topic), kgo.AlwaysRetryEOF())...)
	if err != nil {
		return err
	}
	defer client.Close()
	ended := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(ended)
	}()
	ticks := time.NewTicker(time.Second / time.Duration(rate))
	for number := 0; ; number++ {
		select {
		case <-ended:
			return client.Flush(context.Background())
		case <-ticks.C:
			value := strconv.Itoa(number)
			client.Produce(context.Background(), kgo.KeyStringRecord(value, value), tellOutcome)
		}
	}
}

func tellOutcome(r *kgo.Record, err error) {
	if err != nil {
		fmt.Printf("failed %s: %v\n", r.Value, err)
		return
	}
	fmt.Printf("acked %d %d %s\n", r.Partition, r.Offset, r.Value)
}
