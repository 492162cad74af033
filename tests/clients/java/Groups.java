import java.util.ArrayList;
import java.util.Collection;
import java.util.Collections;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.ConsumerGroupDescription;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.CooperativeStickyAssignor;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.consumer.RangeAssignor;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.GroupState;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.GroupNotEmptyException;

/** Scenarios of consumers that share a topic. */
final class Groups {
    private static final int PARTITIONS = 6;
    private static final int RECORDS = 600;

    private Groups() {}

    static String eager(Trial trial) throws Exception {
        return share(trial, classic(RangeAssignor.class));
    }

    static String cooperative(Trial trial) throws Exception {
        return share(trial, classic(CooperativeStickyAssignor.class));
    }

    static String server(Trial trial) throws Exception {
        return share(trial, Map.of("group.protocol", "consumer"));
    }

    private static Map<String, Object> classic(Class<?> assignor) {
        return Map.of("group.protocol", "classic", "partition.assignment.strategy", assignor.getName(),
                "heartbeat.interval.ms", 500, "session.timeout.ms", 6000);
    }

    /** One consumer, two, one again: each time they own all partitions once, and together they read every record. */
    private static String share(Trial trial, Map<String, Object> settings) throws Exception {
        String topic = trial.topic(PARTITIONS);
        String group = Trial.unique("group");
        Map<String, Object> all = new HashMap<>(settings);
        all.put("group.id", group);
        all.put("auto.offset.reset", "earliest");
        all.put("auto.commit.interval.ms", 200);
        fill(trial, topic, 0);
        Admin admin = trial.admin();
        try (Member first = new Member(trial.consumer(all), topic); Member second = new Member(trial.consumer(all), topic)) {
            trial.step("joining alone");
            first.start();
            first.owns(PARTITIONS);
            trial.step("joining as the second");
            second.start();
            first.owns(PARTITIONS / 2);
            second.owns(PARTITIONS / 2);
            Trial.expect("shared partitions", true, Collections.disjoint(first.owned, second.owned));

            trial.step("describing the group");
            ConsumerGroupDescription described = admin.describeConsumerGroups(List.of(group)).describedGroups().get(group).get();
            Trial.expect("state", GroupState.STABLE, described.groupState());
            Trial.expect("members", 2, described.members().size());
            Trial.expect("their partitions", places(topic), described.members().stream()
                    .flatMap(member -> member.assignment().topicPartitions().stream()).collect(Collectors.toSet()));
            Trial.expectFailure(() -> admin.deleteConsumerGroups(List.of(group)).all().get(), GroupNotEmptyException.class);
            fill(trial, topic, RECORDS);

            trial.step("leaving");
            first.close();
            second.owns(PARTITIONS);
            trial.step("reading everything");
            Trial.eventually(() -> read(first, second).size() == 2 * RECORDS);
        }
        trial.step("reading the commits");
        Map<TopicPartition, OffsetAndMetadata> commits = admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get();
        Trial.expect("commits", 2L * RECORDS, commits.values().stream().mapToLong(OffsetAndMetadata::offset).sum());
        trial.step("deleting the group");
        admin.deleteConsumerGroups(List.of(group)).all().get();
        return "1, 2 and 1 members";
    }

    private static void fill(Trial trial, String topic, int from) throws Exception {
        trial.send(trial.producer(Map.of()), IntStream.range(from, from + RECORDS).mapToObj(
                i -> new ProducerRecord<String, String>(topic, i % PARTITIONS, null, "value " + i)).toList());
    }

    private static Set<TopicPartition> places(String topic) {
        return IntStream.range(0, PARTITIONS).mapToObj(p -> new TopicPartition(topic, p)).collect(Collectors.toSet());
    }

    private static Set<String> read(Member... members) {
        Set<String> values = new HashSet<>();
        for (Member member : members) {
            synchronized (member.values) {
                values.addAll(member.values);
            }
        }
        return values;
    }

    /** A consumer that polls in a thread of its own. */
    private static final class Member implements AutoCloseable {
        private final KafkaConsumer<String, String> consumer;
        private final Thread thread;
        private final Collection<String> values = new ArrayList<>();
        private volatile Set<TopicPartition> owned = Set.of();
        private volatile boolean stopping;
        private volatile Exception failure;

        Member(KafkaConsumer<String, String> consumer, String topic) {
            this.consumer = consumer;
            this.thread = new Thread(() -> poll(topic));
        }

        void start() {
            thread.start();
        }

        private void poll(String topic) {
            try {
                consumer.subscribe(List.of(topic));
                while (!stopping) {
                    for (ConsumerRecord<String, String> record : consumer.poll(Trial.POLL)) {
                        synchronized (values) {
                            values.add(record.value());
                        }
                    }
                    owned = consumer.assignment();
                }
                consumer.close();
            } catch (Exception e) {
                failure = e;
            }
        }

        void owns(int count) throws Exception {
            Trial.eventually(() -> {
                if (failure != null) {
                    throw failure;
                }
                return owned.size() == count;
            });
        }

        @Override
        public void close() throws Exception {
            stopping = true;
            thread.join();
        }
    }
}
