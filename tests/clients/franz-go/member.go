package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

var protocols = map[string][]kgo.Opt{
	"eager":       {kgo.Balancers(kgo.RangeBalancer())},
	"cooperative": {kgo.Balancers(kgo.CooperativeStickyBalancer())},
	"server":      {kgo.Balancers(kgo.RangeBalancer()), kgo.ServerSideBalancer()},
}

// process is a member of a group as a process, to be killed: it tells what it owns and reads until its
// standard input ends.
type process struct {
	protocol, topic, group, instance string
	session                          time.Duration

	mutex sync.Mutex // callbacks and polling take turns
	owned []int32
	out   *bufio.Writer
}

func (p *process) run(options []kgo.Opt) error {
	p.out = bufio.NewWriter(os.Stdout)
	protocol, known := protocols[p.protocol]
	if !known {
		return fmt.Errorf("no such protocol: %s", p.protocol)
	}
	options = append(append(options, protocol...), kgo.ConsumerGroup(p.group), kgo.ConsumeTopics(p.topic),
		kgo.SessionTimeout(p.session), kgo.HeartbeatInterval(500*time.Millisecond), kgo.AutoCommitInterval(200*time.Millisecond),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.BlockRebalanceOnPoll(),
		kgo.OnPartitionsAssigned(p.assigned), kgo.OnPartitionsRevoked(p.revoked), kgo.OnPartitionsLost(p.lost))
	if p.instance != "" {
		options = append(options, kgo.InstanceID(p.instance))
	}
	client, err := kgo.NewClient(options...)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	for ctx.Err() == nil {
		fetches := client.PollFetches(ctx)
		p.tell(func() {
			fetches.EachRecord(func(r *kgo.Record) { fmt.Fprintf(p.out, "record %d %d %s\n", r.Partition, r.Offset, r.Value) })
		})
		client.AllowRebalance()
	}
	client.CloseAllowingRebalance()
	return nil
}

// tell flushes what was printed: what is committed next must have been told.
func (p *process) tell(print func()) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	print()
	p.out.Flush()
}

func (p *process) tellOwned() {
	fmt.Fprint(p.out, "assignment")
	for _, partition := range p.owned {
		fmt.Fprint(p.out, " ", partition)
	}
	fmt.Fprintln(p.out)
}

func (p *process) assigned(_ context.Context, _ *kgo.Client, partitions map[string][]int32) {
	p.tell(func() {
		p.owned = append(p.owned, partitions[p.topic]...)
		p.tellOwned()
	})
}

func (p *process) lost(_ context.Context, _ *kgo.Client, partitions map[string][]int32) {
	p.tell(func() {
		p.owned = slices.DeleteFunc(p.owned, func(own int32) bool { return slices.Contains(partitions[p.topic], own) })
		p.tellOwned()
	})
}

func (p *process) revoked(ctx context.Context, client *kgo.Client, partitions map[string][]int32) {
	// The client does so by itself only while nobody else looks at what it loses.
	_ = client.CommitUncommittedOffsets(ctx)
	p.lost(ctx, client, partitions)
}
