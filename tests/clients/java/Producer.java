import java.util.Map;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.serialization.StringSerializer;

/** A steady producer as a process: until its standard input ends it sends, and tells what became of each record. */
final class Producer {
    private static final int PATIENCE_MS = 600_000;

    private Producer() {}

    static void run(Map<String, String> options) throws Exception {
        CountDownLatch ended = new CountDownLatch(1);
        Thread end = new Thread(() -> {
            try {
                System.in.readAllBytes();
            } catch (java.io.IOException e) {
                // Then it has ended too.
            }
            ended.countDown();
        });
        end.setDaemon(true);
        end.start();
        long pause = 1_000 / Long.parseLong(options.get("--rate"));
        Map<String, Object> settings = Map.of("bootstrap.servers", options.get("--bootstrap"),
                "delivery.timeout.ms", PATIENCE_MS, "max.block.ms", PATIENCE_MS);
        try (var producer = new KafkaProducer<>(settings, new StringSerializer(), new StringSerializer())) {
            for (int number = 0; !ended.await(pause, TimeUnit.MILLISECONDS); number++) {
                String value = String.valueOf(number);
                producer.send(new ProducerRecord<>(options.get("--topic"), value, value),
                        (place, error) -> tell(value, place, error));
            }
        }
    }

    private static void tell(String value, RecordMetadata place, Exception error) {
        if (error == null) {
            System.out.printf("acked %d %d %s%n", place.partition(), place.offset(), value);
        } else {
            System.out.printf("failed %s: %s%n", value, error.toString().replace('\n', ' '));
        }
        System.out.flush();
    }
}
