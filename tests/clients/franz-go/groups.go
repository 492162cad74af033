package main

import (
	"context"
	"fmt"
	"sync"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	sharedPartitions = 6
	sharedRecords    = 600
)

func groupsEager(t *trial) string {
	return share(t, kgo.Balancers(kgo.RangeBalancer()))
}

func groupsCooperative(t *trial) string {
	return share(t, kgo.Balancers(kgo.CooperativeStickyBalancer()))
}

func groupsServer(t *trial) string {
	return share(t, kgo.Balancers(kgo.RangeBalancer()), kgo.ServerSideBalancer())
}

// member is a client of a group that polls until it is closed.
type member struct {
	client *kgo.Client
	done   chan struct{}

	mutex  sync.Mutex
	owned  map[int32]bool
	values map[string]bool
}

// share: one client, two, one again; each time they own all partitions once, and together they read every record.
func share(t *trial, balancer ...kgo.Opt) string {
	topic, group := t.topic(sharedPartitions), unique("group")
	fillShared(t, topic, 0)

	t.step("joining alone")
	first := newMember(t, topic, group, balancer...)
	t.eventually(func() bool { return first.owns(sharedPartitions) })
	t.step("joining as the second")
	second := newMember(t, topic, group, balancer...)
	t.eventually(func() bool { return first.owns(sharedPartitions/2) && second.owns(sharedPartitions/2) })

	t.step("describing the group")
	describe(t, group, topic)
	fillShared(t, topic, sharedRecords)

	t.step("leaving")
	first.close()
	t.eventually(func() bool { return second.owns(sharedPartitions) })
	t.step("reading everything")
	t.eventually(func() bool { return len(valuesOf(first, second)) == 2*sharedRecords })
	second.close()

	t.step("reading the commits")
	commits, err := t.admin().FetchOffsets(t.ctx, group)
	t.must(err)
	var sum int64
	commits.Each(func(commit kadm.OffsetResponse) { sum += commit.At })
	expect(t, "commits", int64(2*sharedRecords), sum)
	t.step("deleting the group")
	deleted, err := t.admin().DeleteGroups(t.ctx, group)
	t.must(err)
	t.must(deleted.Error())
	return "1, 2 and 1 members"
}

// describe takes what either protocol knows about a group.
func describe(t *trial, group, topic string) {
	classic, err := t.admin().DescribeGroups(t.ctx, group)
	t.must(err)
	state, members, assigned := classic[group].State, len(classic[group].Members), classic.AssignedPartitions()
	if classic.Error() != nil {
		found, err := t.admin().DescribeConsumerGroups(t.ctx, group)
		t.must(err)
		t.must(found.Error())
		state, members, assigned = found[group].State, len(found[group].Members), found.AssignedPartitions()
	}
	expect(t, "state", "Stable", state)
	expect(t, "members", 2, members)
	expect(t, "their partitions", sharedPartitions, len(assigned[topic]))
}

func fillShared(t *trial, topic string, from int) {
	var records []*kgo.Record
	for i := from; i < from+sharedRecords; i++ {
		records = append(records, &kgo.Record{Topic: topic, Partition: int32(i % sharedPartitions), Value: fmt.Append(nil, "value ", i)})
	}
	t.send(t.client(kgo.RecordPartitioner(kgo.ManualPartitioner())), records...)
}

func newMember(t *trial, topic, group string, options ...kgo.Opt) *member {
	m := &member{done: make(chan struct{}), owned: map[int32]bool{}, values: map[string]bool{}}
	change := func(own bool) func(context.Context, *kgo.Client, map[string][]int32) {
		return func(ctx context.Context, client *kgo.Client, partitions map[string][]int32) {
			if !own {
				// The client does so by itself only while nobody else looks at what it loses.
				client.CommitUncommittedOffsets(ctx)
			}
			m.mutex.Lock()
			defer m.mutex.Unlock()
			for _, partition := range partitions[topic] {
				if own {
					m.owned[partition] = true
				} else {
					delete(m.owned, partition)
				}
			}
		}
	}
	options = append(options, kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.HeartbeatInterval(500*1e6),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.OnPartitionsAssigned(change(true)), kgo.OnPartitionsRevoked(change(false)), kgo.OnPartitionsLost(change(false)))
	m.client = t.client(options...)
	go m.poll(t.ctx)
	return m
}

func (m *member) poll(ctx context.Context) {
	defer close(m.done)
	for {
		fetches := m.client.PollFetches(ctx)
		if fetches.IsClientClosed() || ctx.Err() != nil {
			return
		}
		m.mutex.Lock()
		fetches.EachRecord(func(r *kgo.Record) { m.values[string(r.Value)] = true })
		m.mutex.Unlock()
	}
}

func (m *member) owns(count int) bool {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	return len(m.owned) == count
}

func (m *member) close() {
	m.client.Close()
	<-m.done
}

func valuesOf(members ...*member) map[string]bool {
	all := map[string]bool{}
	for _, m := range members {
		m.mutex.Lock()
		for value := range m.values {
			all[value] = true
		}
		m.mutex.Unlock()
	}
	return all
}
