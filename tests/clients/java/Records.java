import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeUnit;
import java.util.stream.IntStream;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.RecordTooLargeException;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;

/** Scenarios about producing and consuming. */
final class Records {
    private Records() {}

    static String produceConsume(Trial trial) throws Exception {
        String topic = trial.topic(4);
        trial.roundTrip(Map.of(), numbered(topic, 1000, null));
        TopicPartition place = new TopicPartition(topic, 0);
        KafkaConsumer<String, String> consumer = trial.consumer(Map.of());
        consumer.assign(List.of(place));
        long middle = consumer.endOffsets(List.of(place)).get(place) / 2;
        for (long offset : List.of(middle, middle + 1)) { // one of the two is inside a batch
            trial.step("seeking to " + offset);
            consumer.seek(place, offset);
            Trial.expect("first offset after a seek", offset, Trial.first(consumer).offset());
        }
        return "1000 records, 4 partitions";
    }

    static String codecs(Trial trial) throws Exception {
        List<String> codecs = List.of("none", "gzip", "snappy", "lz4", "zstd");
        for (String codec : codecs) {
            trial.roundTrip(Map.of("compression.type", codec), numbered(trial.topic(1), 200, null));
        }
        return String.join(" ", codecs);
    }

    static String autoCreate(Trial trial) throws Exception {
        trial.roundTrip(Map.of(), numbered(Trial.unique("auto"), 10, null));
        return "10 records";
    }

    static String acks(Trial trial) throws Exception {
        for (String acks : List.of("0", "1", "all")) {
            Map<String, Object> changes = Map.of("acks", acks, "enable.idempotence", false);
            trial.roundTrip(changes, numbered(trial.topic(1), 200, null));
        }
        return "0, 1, all";
    }

    static String longPoll(Trial trial) throws Exception {
        String topic = trial.topic(1);
        KafkaProducer<String, String> producer = trial.producer(Map.of());
        KafkaConsumer<String, String> consumer = trial.reader(Map.of("fetch.max.wait.ms", 10_000), topic);

        trial.step("polling an empty partition");
        Trial.expect("records in an empty partition", 0, consumer.poll(Duration.ofSeconds(2)).count());
        trial.step("waiting for a record");
        ScheduledExecutorService later = Executors.newSingleThreadScheduledExecutor();
        Future<Long> acknowledged = later.schedule(() -> {
            producer.send(new ProducerRecord<>(topic, "late")).get();
            return System.nanoTime();
        }, 500, TimeUnit.MILLISECONDS);
        later.shutdown();
        Trial.first(consumer);
        long delay = (System.nanoTime() - acknowledged.get()) / 1_000_000;
        if (delay > 5000) {
            throw new AssertionError("the record arrived " + delay + " ms after its acknowledgement");
        }
        double answers = consumer.metrics().values().stream()
                .filter(metric -> metric.metricName().name().equals("fetch-total"))
                .mapToDouble(metric -> (double) metric.metricValue()).sum();
        if (answers < 1 || answers > 6) {
            throw new AssertionError(answers + " fetches were answered in 2.5 s");
        }
        return String.format("%.0f fetches answered in 2.5 s, arrival %d ms after the acknowledgement", answers, delay);
    }

    static String big(Trial trial) throws Exception {
        String topic = trial.topic(1);
        trial.roundTrip(Map.of(), List.of(new ProducerRecord<>(topic, 0, Trial.START, "key", "x".repeat(900_000))));
        KafkaProducer<String, String> producer = trial.producer(Map.of("max.request.size", 4_000_000));
        trial.step("producing 2 MB");
        Trial.expectFailure(() -> producer.send(new ProducerRecord<>(topic, "x".repeat(2_000_000))).get(),
                RecordTooLargeException.class);
        trial.step("producing after the refusal");
        Trial.expect("next offset", 1L, producer.send(new ProducerRecord<>(topic, "small")).get().offset());
        return "900 KB taken, 2 MB refused";
    }

    static String idempotent(Trial trial) throws Exception {
        trial.roundTrip(Map.of("max.in.flight.requests.per.connection", 5), numbered(trial.topic(3), 20_000, 3));
        return "20000 records, 3 partitions";
    }

    /** So many different records, for partitions by key or, if their number is given, for each partition in turn. */
    private static List<ProducerRecord<String, String>> numbered(String topic, int count, Integer partitions) {
        return IntStream.range(0, count).mapToObj(i -> new ProducerRecord<>(
                topic, partitions == null ? null : i % partitions, Trial.START + i, "key-" + i, "value-" + i,
                headers(i))).toList();
    }

    private static List<Header> headers(int i) {
        byte[] value = ("number-" + i).getBytes(StandardCharsets.UTF_8);
        return List.of(new RecordHeader("name", value), new RecordHeader("name", null));
    }
}
