package main

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/IBM/sarama"
)

// patient are settings with which a producer outlives an outage of minutes: this client counts attempts, not time.
func patient() *sarama.Config {
	config := settings()
	config.Producer.RequiredAcks = sarama.WaitForAll
	config.Producer.Retry.Max = 1200
	config.Producer.Retry.Backoff = 250 * time.Millisecond
	config.Metadata.Retry.Max = 1200 // a leader that cannot be asked for fails a record at once
	return config
}

// produceSteadily sends until its standard input ends, and tells what became of each record.
func produceSteadily(bootstrap, topic string, rate int) error {
	producer, err := sarama.NewAsyncProducer(strings.Split(bootstrap, ","), patient())
	if err != nil {
		return err
	}
	var pending sync.WaitGroup
	go func() {
		for r := range producer.Successes() {
			fmt.Printf("acked %d %d %s\n", r.Partition, r.Offset, r.Value)
			pending.Done()
		}
	}()
	go func() {
		for failure := range producer.Errors() {
			fmt.Printf("failed %s: %v\n", failure.Msg.Value, failure.Err)
			pending.Done()
		}
	}()
	ended := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(ended)
	}()
	ticks := time.NewTicker(time.Second / time.Duration(rate))
	for number := 0; ; number++ {
		select {
		case <-ended:
			pending.Wait() // closing gives up what is about to be tried again
			return producer.Close()
		case <-ticks.C:
			pending.Add(1)
			value := sarama.StringEncoder(strconv.Itoa(number))
			producer.Input() <- &sarama.ProducerMessage{Topic: topic, Key: value, Value: value}
		}
	}
}
