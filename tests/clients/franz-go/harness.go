// Command clients runs conformance scenarios with franz-go against a broker:
// one after the other, each with a time limit, printing one line for each.
package main

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"os"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

const limit = 30 * time.Second

// A scenario returns its figures; it fails the trial if the broker does anything but what it should.
var scenarios = []struct {
	name string
	run  func(*trial) string
}{
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
}

func main() {
	var options []kgo.Opt
	var chosen []string
	flag.Func("bootstrap", "the broker's `HOST:PORT`", func(address string) error {
		options = append(options, kgo.SeedBrokers(address))
		return nil
	})
	flag.Func("scenario", "the `NAME` of a scenario to run, instead of all", func(name string) error {
		chosen = append(chosen, name)
		return nil
	})
	flag.BoolFunc("verbose", "show the client's own log", func(string) error {
		options = append(options, kgo.WithLogger(kgo.BasicLogger(os.Stderr, kgo.LogLevelDebug, nil)))
		return nil
	})
	flag.Parse()

	passed := true
	for _, scenario := range scenarios {
		at := slices.Index(chosen, scenario.name)
		if at >= 0 {
			chosen = slices.Delete(chosen, at, at+1)
		}
	}
	if !passed {
		os.Exit(1)
	}
}
