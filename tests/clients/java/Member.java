import java.io.PrintWriter;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.CooperativeStickyAssignor;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.RangeAssignor;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.WakeupException;
import org.apache.kafka.common.serialization.StringDeserializer;

/** A member of a group as a process, to be killed: it tells what it owns and reads until its standard input ends. */
final class Member {
    private Member() {}

    static void run(Map<String, String> options) throws Exception {
        KafkaConsumer<String, String> consumer =
                new KafkaConsumer<>(settings(options), new StringDeserializer(), new StringDeserializer());
        Thread end = new Thread(() -> {
            try {
                System.in.readAllBytes();
            } catch (java.io.IOException e) {
                // Then it has ended too.
            }
            consumer.wakeup();
        });
        end.setDaemon(true);
        end.start();
        PrintWriter out = new PrintWriter(System.out);
        Set<TopicPartition> told = Set.of();
        consumer.subscribe(List.of(options.get("--topic")));
        try (consumer) {
            while (true) {
                for (ConsumerRecord<String, String> record : consumer.poll(Trial.POLL)) {
                    out.printf("record %d %d %s%n", record.partition(), record.offset(), record.value());
                }
                if (!told.equals(consumer.assignment())) {
                    told = Set.copyOf(consumer.assignment());
                    out.print("assignment");
                    told.forEach(place -> out.print(" " + place.partition()));
                    out.println();
                }
                out.flush(); // what the next poll may commit must have been told
            }
        } catch (WakeupException e) {
            // The end.
        }
    }

    private static Map<String, Object> settings(Map<String, String> options) {
        Map<String, Object> settings = new HashMap<>(protocol(options.get("--member"), options.get("--session-ms")));
        settings.put("bootstrap.servers", options.get("--bootstrap"));
        settings.put("group.id", options.get("--group"));
        settings.put("group.instance.id", options.get("--instance"));
        settings.put("auto.offset.reset", "earliest");
        settings.put("auto.commit.interval.ms", 200);
        return settings;
    }

    private static Map<String, Object> protocol(String name, String session) {
        return switch (name) {
            case "eager" -> classic(RangeAssignor.class, session);
            case "cooperative" -> classic(CooperativeStickyAssignor.class, session);
            case "server" -> Map.of("group.protocol", "consumer"); // whose session is the group's business
            default -> throw new IllegalArgumentException("no such protocol: " + name);
        };
    }

    private static Map<String, Object> classic(Class<?> assignor, String session) {
        return Map.of("group.protocol", "classic", "partition.assignment.strategy", assignor.getName(),
                "session.timeout.ms", session, "heartbeat.interval.ms", 500);
    }
}
