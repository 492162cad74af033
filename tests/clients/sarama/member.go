package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/IBM/sarama"
)

// process is a member of a group as a process, to be killed: it tells what it owns and reads until its
// standard input ends.
type process struct {
	protocol, topic, group, instance string
	session                          time.Duration
}

func (p *process) run(bootstrap string) error {
	if protocols[p.protocol] == nil {
		return fmt.Errorf("no such protocol: %s", p.protocol)
	}
	config := inGroup(p.protocol, p.session)
	config.Consumer.Group.InstanceId = p.instance
	member, err := newMember(bootstrap, p.topic, p.group, config, func(owned []int32, r *sarama.ConsumerMessage) {
		if r != nil {
			fmt.Printf("record %d %d %s\n", r.Partition, r.Offset, r.Value)
			return
		}
		line := "assignment"
		for _, partition := range owned {
			line += fmt.Sprint(" ", partition)
		}
		fmt.Println(line)
	})
	if err != nil {
		return err
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
	member.close()
	return nil
}
