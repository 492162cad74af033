import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;
import java.util.Set;
import java.util.UUID;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.stream.Stream;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/** One run of one scenario: what it can ask for, the step it is at, and the clients it opened, closed at its end. */
final class Trial implements AutoCloseable {
    static final Duration POLL = Duration.ofMillis(100);
    /** The first timestamp in a topic: old enough to be nobody's clock, young enough not to be cleaned away. */
    static final long START = System.currentTimeMillis() - 3_600_000;

    private final String bootstrap;
    private final List<AutoCloseable> clients = new ArrayList<>();
    private volatile String step = "starting";

    Trial(String bootstrap) {
        this.bootstrap = bootstrap;
    }

    /** Names what comes next, for the report of a failure. */
    void step(String next) {
        step = next;
    }

    String step() {
        return step;
    }

    @Override
    public void close() throws Exception {
        for (AutoCloseable client : clients) {
            client.close();
        }
    }

    Admin admin() {
        return opened(Admin.create(settings(Map.of())));
    }

    KafkaProducer<String, String> producer(Map<String, Object> changes) {
        return opened(new KafkaProducer<>(settings(changes), new StringSerializer(), new StringSerializer()));
    }

    KafkaConsumer<String, String> consumer(Map<String, Object> changes) {
        return opened(new KafkaConsumer<>(settings(changes), new StringDeserializer(), new StringDeserializer()));
    }

    /** A consumer that stands at the beginning of all partitions of the topic. */
    KafkaConsumer<String, String> reader(Map<String, Object> changes, String topic) {
        KafkaConsumer<String, String> consumer = consumer(changes);
        consumer.assign(consumer.partitionsFor(topic).stream()
                .map(found -> new TopicPartition(topic, found.partition())).toList());
        consumer.seekToBeginning(consumer.assignment());
        return consumer;
    }

    private Map<String, Object> settings(Map<String, Object> changes) {
        Map<String, Object> settings = new HashMap<>(changes);
        settings.put("bootstrap.servers", bootstrap);
        return settings;
    }

    private <C extends AutoCloseable> C opened(C client) {
        clients.add(client);
        return client;
    }

    static String unique(String what) {
        return what + "-" + UUID.randomUUID();
    }

    /** Creates a topic with a new name. */
    String topic(int partitions) throws Exception {
        step("creating a topic");
        String name = unique("topic");
        create(admin(), name, partitions);
        return name;
    }

    /** Creates a topic and waits until the broker shows it. */
    static void create(Admin admin, String name, int partitions) throws Exception {
        admin.createTopics(List.of(newTopic(name, partitions))).all().get();
        eventually(() -> exists(admin, name));
    }

    static NewTopic newTopic(String name, int partitions) {
        return new NewTopic(name, Optional.of(partitions), Optional.empty());
    }

    static boolean exists(Admin admin, String topic) throws Exception {
        try {
            admin.describeTopics(List.of(topic)).allTopicNames().get();
            return true;
        } catch (ExecutionException e) {
            if (e.getCause() instanceof UnknownTopicOrPartitionException) {
                return false;
            }
            throw e;
        }
    }

    /** Waits for what a cluster may show a little later. */
    static void eventually(Callable<Boolean> condition) throws Exception {
        while (!condition.call()) {
            Thread.sleep(20);
        }
    }

    /** Sends the records and returns what was acknowledged for each. */
    List<RecordMetadata> send(KafkaProducer<String, String> producer, List<ProducerRecord<String, String>> records)
            throws Exception {
        step("producing " + records.size() + " records");
        List<Future<RecordMetadata>> pending = records.stream().map(producer::send).toList();
        producer.flush();
        List<RecordMetadata> acknowledged = new ArrayList<>();
        for (Future<RecordMetadata> one : pending) {
            acknowledged.add(one.get());
        }
        return acknowledged;
    }

    /** Fills partition 0 of the topic with records of these values. */
    void fill(String topic, String... values) throws Exception {
        send(producer(Map.of()), Stream.of(values)
                .map(value -> new ProducerRecord<String, String>(topic, 0, null, value)).toList());
    }

    static ConsumerRecord<String, String> first(KafkaConsumer<String, String> consumer) {
        while (true) {
            for (ConsumerRecord<String, String> record : consumer.poll(POLL)) {
                return record;
            }
        }
    }

    /** Reads from where the consumer stands to the end, where so many records must have come. */
    List<ConsumerRecord<String, String>> read(KafkaConsumer<String, String> consumer, int count) {
        List<ConsumerRecord<String, String>> records = new ArrayList<>();
        Set<TopicPartition> partitions = consumer.assignment();
        Map<TopicPartition, Long> ends = consumer.endOffsets(partitions);
        while (records.size() < count || partitions.stream().anyMatch(p -> consumer.position(p) < ends.get(p))) {
            step("reading, " + records.size() + " of " + count + " records so far");
            consumer.poll(POLL).forEach(records::add);
        }
        expect("number of records", count, records.size());
        return records;
    }

    private record Content(String key, String value, List<Header> headers, Long timestamp) {
        Content(ProducerRecord<String, String> sent) {
            this(sent.key(), sent.value(), List.of(sent.headers().toArray()), sent.timestamp());
        }

        Content(ConsumerRecord<String, String> read) {
            this(read.key(), read.value(), List.of(read.headers().toArray()), read.timestamp());
        }
    }

    /**
     * Sends the records to an empty topic and reads it. Each must be there once and unchanged, in the order of
     * sending within its partition, and at the offset that was acknowledged.
     */
    void roundTrip(Map<String, Object> producerChanges, List<ProducerRecord<String, String>> records) throws Exception {
        List<RecordMetadata> acknowledged = send(producer(producerChanges), records);
        Map<Integer, List<Content>> sent = new HashMap<>();
        for (int i = 0; i < records.size(); i++) {
            RecordMetadata place = acknowledged.get(i);
            List<Content> log = sent.computeIfAbsent(place.partition(), p -> new ArrayList<>());
            long offset = "0".equals(producerChanges.get("acks")) ? -1 : log.size();
            expect("acknowledged offset", offset, place.offset());
            log.add(new Content(records.get(i)));
        }
        Map<Integer, Long> next = new HashMap<>();
        for (ConsumerRecord<String, String> record : read(reader(Map.of(), records.get(0).topic()), records.size())) {
            long offset = next.merge(record.partition(), 1L, Long::sum) - 1;
            expect("offset", offset, record.offset());
            expect("record", sent.get(record.partition()).get((int) offset), new Content(record));
        }
    }

    static void expect(String what, Object expected, Object actual) {
        if (!Objects.equals(expected, actual)) {
            throw new AssertionError(String.format("%s: expected %.300s, got %.300s", what, expected, actual));
        }
    }

    static void expectFailure(Callable<?> action, Class<?>... expected) {
        Object outcome;
        try {
            outcome = action.call();
        } catch (Exception e) {
            outcome = e instanceof ExecutionException ? e.getCause() : e;
        }
        if (outcome == null || !List.of(expected).contains(outcome.getClass())) {
            throw new AssertionError("expected one of " + Arrays.toString(expected) + ", got " + outcome);
        }
    }
}
