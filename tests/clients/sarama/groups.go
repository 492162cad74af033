package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/IBM/sarama"
)

const (
	sharedPartitions = 6
	sharedRecords    = 600
)

var protocols = map[string]func() sarama.BalanceStrategy{
	"eager":       sarama.NewBalanceStrategyRange,
	"sticky":      sarama.NewBalanceStrategySticky,
	"cooperative": sarama.NewBalanceStrategyCooperativeSticky,
}

// inGroup are the settings of a member.
func inGroup(protocol string, session time.Duration) *sarama.Config {
	config := settings()
	config.Consumer.Group.Rebalance.GroupStrategies = []sarama.BalanceStrategy{protocols[protocol]()}
	config.Consumer.Group.Session.Timeout = session
	config.Consumer.Group.Heartbeat.Interval = 500 * time.Millisecond
	config.Consumer.Offsets.AutoCommit.Interval = 200 * time.Millisecond
	return config
}

// member is a consumer of a group. It tells what it owns and what it reads before it marks a record as done.
type member struct {
	group  sarama.ConsumerGroup
	cancel context.CancelFunc
	done   chan struct{}
	tell   func(owned []int32, record *sarama.ConsumerMessage)

	mutex sync.Mutex
	owned []int32
}

func newMember(bootstrap, topic, name string, config *sarama.Config, tell func([]int32, *sarama.ConsumerMessage)) (*member, error) {
	group, err := sarama.NewConsumerGroup(strings.Split(bootstrap, ","), name, config)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	m := &member{group: group, cancel: cancel, done: make(chan struct{}), tell: tell}
	go func() {
		for range group.Errors() {
		}
	}()
	go func() {
		defer close(m.done)
		for ctx.Err() == nil {
			_ = group.Consume(ctx, []string{topic}, m) // until the next rebalance
		}
	}()
	return m, nil
}

func (m *member) Setup(sarama.ConsumerGroupSession) error   { return nil }
func (m *member) Cleanup(sarama.ConsumerGroupSession) error { return nil }

// ConsumeClaim lasts for as long as the partition is this member's.
func (m *member) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	m.change(func() { m.owned = append(m.owned, claim.Partition()) })
	defer m.change(func() {
		m.owned = slices.DeleteFunc(m.owned, func(own int32) bool { return own == claim.Partition() })
	})
	for record := range claim.Messages() {
		m.mutex.Lock()
		m.tell(nil, record)
		m.mutex.Unlock()
		session.MarkMessage(record, "")
	}
	return nil
}

func (m *member) change(owned func()) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	owned()
	m.tell(m.owned, nil)
}

func (m *member) owns(count int) bool {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	return len(m.owned) == count
}

func (m *member) close() {
	m.cancel()
	<-m.done
	m.group.Close()
}

func groupsOf(protocol string) func(*trial) string {
	return func(t *trial) string { return share(t, protocol) }
}

// share: one client, two, one again; each time they own all partitions once, and together they read every record.
func share(t *trial, protocol string) string {
	topic, group := t.topic(sharedPartitions), unique("group")
	fillShared(t, topic, 0)
	var values sync.Map
	join := func() *member {
		joined, err := newMember(t.bootstrap, topic, group, inGroup(protocol, 6*time.Second), func(_ []int32, r *sarama.ConsumerMessage) {
			if r != nil {
				values.Store(string(r.Value), true)
			}
		})
		t.must(err)
		return joined
	}

	t.step("joining alone")
	first := join()
	t.eventually(func() bool { return first.owns(sharedPartitions) })
	t.step("joining as the second")
	second := join()
	t.eventually(func() bool { return first.owns(sharedPartitions/2) && second.owns(sharedPartitions/2) })

	t.step("describing the group")
	described, err := t.admin().DescribeConsumerGroups([]string{group})
	t.must(err)
	expect(t, "state", "Stable", described[0].State)
	expect(t, "members", 2, len(described[0].Members))
	fillShared(t, topic, sharedRecords)

	t.step("leaving")
	first.close()
	t.eventually(func() bool { return second.owns(sharedPartitions) })
	t.step("reading everything")
	t.eventually(func() bool { return count(&values) == 2*sharedRecords })
	second.close()

	t.step("reading the commits")
	commits, err := t.admin().ListConsumerGroupOffsets(group, nil)
	t.must(err)
	var sum int64
	for _, commit := range commits.Blocks[topic] {
		sum += commit.Offset
	}
	expect(t, "commits", int64(2*sharedRecords), sum)
	t.step("deleting the group")
	t.must(t.admin().DeleteConsumerGroup(group))
	return "1, 2 and 1 members"
}

func count(values *sync.Map) int {
	n := 0
	values.Range(func(any, any) bool { n++; return true })
	return n
}

func fillShared(t *trial, topic string, from int) {
	var records []*sarama.ProducerMessage
	for i := from; i < from+sharedRecords; i++ {
		records = append(records, &sarama.ProducerMessage{
			Topic: topic, Partition: int32(i % sharedPartitions), Value: sarama.StringEncoder(fmt.Sprint("value ", i))})
	}
	t.send(t.producer(manual), records...)
}
