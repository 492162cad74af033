// Command clients runs conformance scenarios with franz-go against a broker:
// one after the other, each with a time limit, printing one line for each.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

const limit = 90 * time.Second

// A scenario returns its figures; it fails the trial if the broker does anything but what it should.
type scenario struct {
	name string
	run  func(*trial) string
}

var scenarios = []scenario{
	{"produce-consume", produceConsume},
	{"codecs", codecs},
	{"auto-create", autoCreate},
	{"acks", acks},
	{"list-offsets", listOffsets},
	{"admin", admin},
	{"committed-offsets", committedOffsets},
	{"long-poll", longPoll},
	{"big", big},
	{"idempotent", idempotent},
	{"out-of-range", outOfRange},
	{"groups-eager", groupsEager},
	{"groups-cooperative", groupsCooperative},
	{"groups-server", groupsServer},
}

func main() {
	var options []kgo.Opt
	var chosen []scenario
	flag.Func("bootstrap", "the broker's `HOST:PORT`", func(address string) error {
		options = append(options, kgo.SeedBrokers(strings.Split(address, ",")...))
		return nil
	})
	flag.Func("scenario", "the `NAME` of a scenario to run, instead of all", func(name string) error {
		chosen = append(chosen, named(name))
		return nil
	})
	flag.BoolFunc("verbose", "show the client's own log", func(string) error {
		options = append(options, kgo.WithLogger(kgo.BasicLogger(os.Stderr, kgo.LogLevelDebug, nil)))
		return nil
	})
	var member process
	flag.StringVar(&member.protocol, "member", "", "be a member of a group instead, with this `PROTOCOL`")
	flag.StringVar(&member.topic, "topic", "", "the `TOPIC` of a member or a producer")
	flag.StringVar(&member.group, "group", "", "the member's `GROUP`")
	flag.StringVar(&member.instance, "instance", "", "the member's static `NAME`")
	flag.Func("session-ms", "the member's session", func(millis string) (err error) {
		member.session, err = time.ParseDuration(millis + "ms")
		return err
	})
	producing := flag.Bool("producer", false, "be a steady producer instead")
	rate := flag.Int("rate", 1, "the producer's records a second")
	flag.Parse()
	if *producing {
		exit(produceSteadily(options, member.topic, *rate))
	}
	if member.protocol != "" {
		exit(member.run(options))
	}
	if chosen == nil {
		chosen = scenarios
	}
	failed := false
	for _, s := range chosen {
		failed = !report(s, options) || failed
	}
	if failed {
		os.Exit(1)
	}
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func named(name string) scenario {
	for _, s := range scenarios {
		if s.name == name {
			return s
		}
	}
	return scenario{name, func(t *trial) string { t.failf("no such scenario"); return "" }}
}

func report(s scenario, options []kgo.Opt) bool {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	t := &trial{ctx: ctx, options: options}
	t.step("starting")
	start := time.Now()
	done := make(chan string, 1)
	go func() {
		defer close(done)
		defer t.close()
		done <- s.run(t)
	}()
	reason := ""
	select {
	case figures, passed := <-done:
		if passed {
			fmt.Printf("ok franz-go %s (%s, %.1f s)\n", s.name, figures, time.Since(start).Seconds())
			return true
		}
		reason = t.reason
	case <-time.After(limit):
		reason = fmt.Sprintf("no end within %v", limit)
	}
	fmt.Printf("FAILED franz-go %s: %s: %s\n", s.name, t.at.Load(), strings.ReplaceAll(reason, "\n", " "))
	return false
}
