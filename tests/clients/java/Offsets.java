import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.stream.Stream;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.consumer.OffsetAndTimestamp;
import org.apache.kafka.clients.consumer.OffsetOutOfRangeException;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;

/** Scenarios about finding and keeping offsets. */
final class Offsets {
    private Offsets() {}

    static String listOffsets(Trial trial) throws Exception {
        String topic = trial.topic(1);
        trial.send(trial.producer(Map.of()), Stream.of(0, 1000, 3000, 2000).map(
                delay -> new ProducerRecord<String, String>(topic, 0, Trial.START + delay, null, "v")).toList());
        TopicPartition place = new TopicPartition(topic, 0);
        Admin admin = trial.admin();
        trial.step("asking with an admin client");
        expectListed(admin, place, "earliest", OffsetSpec.earliest(), 0);
        expectListed(admin, place, "latest", OffsetSpec.latest(), 4);
        expectListed(admin, place, "between two records", OffsetSpec.forTimestamp(Trial.START + 500), 1);
        expectListed(admin, place, "exactly at a record", OffsetSpec.forTimestamp(Trial.START + 1000), 1);
        expectListed(admin, place, "out of order", OffsetSpec.forTimestamp(Trial.START + 1500), 2);
        expectListed(admin, place, "after the end", OffsetSpec.forTimestamp(Trial.START + 3001), -1);
        expectListed(admin, place, "max timestamp", OffsetSpec.maxTimestamp(), 2);

        trial.step("asking with a consumer");
        KafkaConsumer<String, String> consumer = trial.consumer(Map.of());
        Trial.expect("beginning", Map.of(place, 0L), consumer.beginningOffsets(List.of(place)));
        Trial.expect("end", Map.of(place, 4L), consumer.endOffsets(List.of(place)));
        OffsetAndTimestamp found = consumer.offsetsForTimes(Map.of(place, Trial.START + 500)).get(place);
        Trial.expect("offset for a time", 1L, found.offset());
        Trial.expect("its timestamp", Trial.START + 1000, found.timestamp());
        Trial.expect("after the end", null, consumer.offsetsForTimes(Map.of(place, Trial.START + 3001)).get(place));
        return "earliest, latest, timestamps, max timestamp";
    }

    private static void expectListed(Admin admin, TopicPartition place, String what, OffsetSpec spec, long offset)
            throws Exception {
        Trial.expect(what, offset, admin.listOffsets(Map.of(place, spec)).partitionResult(place).get().offset());
    }

    static String committedOffsets(Trial trial) throws Exception {
        String topic = trial.topic(1);
        trial.fill(topic, "a", "b", "c", "d");
        TopicPartition place = new TopicPartition(topic, 0);
        Map<String, Object> group = Map.of("group.id", Trial.unique("group"), "enable.auto.commit", false);

        trial.step("committing");
        KafkaConsumer<String, String> committing = trial.consumer(group);
        committing.assign(List.of(place));
        OffsetAndMetadata commit = new OffsetAndMetadata(2, Optional.empty(), "a note");
        committing.commitSync(Map.of(place, commit));

        trial.step("reading the commit back");
        KafkaConsumer<String, String> resuming = trial.consumer(group);
        Trial.expect("commit", Map.of(place, commit), resuming.committed(Set.of(place)));

        trial.step("resuming");
        resuming.assign(List.of(place));
        Trial.expect("value", "c", Trial.first(resuming).value());

        trial.step("asking for an unknown group");
        String unknown = Trial.unique("group");
        Trial.expect("commit", null, trial.consumer(Map.of("group.id", unknown)).committed(Set.of(place)).get(place));
        Trial.expect("offsets", Map.of(),
                trial.admin().listConsumerGroupOffsets(unknown).partitionsToOffsetAndMetadata().get());
        return "offset 2 of 4 with metadata";
    }

    static String outOfRange(Trial trial) throws Exception {
        String topic = trial.topic(1);
        trial.fill(topic, "a", "b");
        TopicPartition place = new TopicPartition(topic, 0);

        trial.step("fetching without a reset");
        KafkaConsumer<String, String> strict = trial.reader(Map.of("auto.offset.reset", "none"), topic);
        strict.seek(place, 100);
        Trial.expectFailure(() -> Trial.first(strict), OffsetOutOfRangeException.class);

        trial.step("fetching with a reset to the earliest");
        KafkaConsumer<String, String> lenient = trial.reader(Map.of("auto.offset.reset", "earliest"), topic);
        lenient.seek(place, 100);
        Trial.expect("first offset", 0L, Trial.first(lenient).offset());
        return "none, earliest";
    }
}
