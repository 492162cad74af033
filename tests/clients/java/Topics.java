import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.Config;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.CreateTopicsOptions;
import org.apache.kafka.clients.admin.DescribeClusterResult;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.common.Node;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.InvalidPartitionsException;
import org.apache.kafka.common.errors.InvalidTopicException;
import org.apache.kafka.common.errors.PolicyViolationException;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;

/** Scenarios about topics, configurations and the cluster. */
final class Topics {
    private Topics() {}

    static String admin(Trial trial) throws Exception {
        Admin admin = trial.admin();
        String topic = trial.topic(3);
        refusals(trial, admin, topic);

        trial.step("creating with validate_only");
        String valid = Trial.unique("valid");
        admin.createTopics(List.of(Trial.newTopic(valid, 1)), new CreateTopicsOptions().validateOnly(true)).all().get();

        trial.step("listing and describing topics");
        Set<String> names = admin.listTopics().names().get();
        Trial.expect("the topic is listed", true, names.contains(topic));
        Trial.expect("the validated topic is listed", false, names.contains(valid));
        TopicDescription description = describe(admin, topic);
        Trial.expect("partitions", 3, description.partitions().size());

        trial.step("describing the cluster");
        DescribeClusterResult cluster = admin.describeCluster();
        Set<Integer> nodes = cluster.nodes().get().stream().map(Node::id).collect(Collectors.toSet());
        Trial.expect("the controller is a node", true, nodes.contains(cluster.controller().get().id()));
        description.partitions().forEach(partition ->
                Trial.expect("the leader is a node", true, nodes.contains(partition.leader().id())));

        trial.step("describing configurations");
        String node = nodes.iterator().next().toString();
        expectSettings(admin, ConfigResource.Type.TOPIC, topic, "retention.ms", "cleanup.policy", "max.message.bytes");
        expectSettings(admin, ConfigResource.Type.BROKER, node, "advertised.listeners");

        trial.fill(topic, "a", "b", "c");
        trial.step("deleting");
        admin.deleteTopics(List.of(topic)).all().get();
        Trial.eventually(() -> !Trial.exists(admin, topic));

        trial.step("creating the deleted topic again");
        Trial.create(admin, topic, 3);
        Trial.expect("same topic id", false, describe(admin, topic).topicId().equals(description.topicId()));
        trial.read(trial.reader(Map.of(), topic), 0);
        trial.fill(topic, "d");
        Trial.expect("first offset", 0L, Trial.first(trial.reader(Map.of(), topic)).offset());
        return "topics, cluster, configurations";
    }

    private static void refusals(Trial trial, Admin admin, String topic) {
        trial.step("creating a topic that exists");
        Trial.expectFailure(() -> create(admin, topic, 3), TopicExistsException.class);
        trial.step("creating a topic with an invalid name");
        Trial.expectFailure(() -> create(admin, "not/valid", 1), InvalidTopicException.class);
        trial.step("creating a topic with 0 partitions");
        Trial.expectFailure(() -> create(admin, Trial.unique("none"), 0), InvalidPartitionsException.class);
        trial.step("creating a topic with too many partitions");
        Trial.expectFailure(() -> create(admin, Trial.unique("many"), 1_000_000),
                InvalidPartitionsException.class, PolicyViolationException.class);
        trial.step("describing an unknown topic");
        Trial.expectFailure(() -> describe(admin, Trial.unique("unknown")), UnknownTopicOrPartitionException.class);
        trial.step("deleting an unknown topic");
        Trial.expectFailure(() -> admin.deleteTopics(List.of(Trial.unique("unknown"))).all().get(),
                UnknownTopicOrPartitionException.class);
    }

    private static Void create(Admin admin, String name, int partitions) throws Exception {
        return admin.createTopics(List.of(Trial.newTopic(name, partitions))).all().get();
    }

    private static TopicDescription describe(Admin admin, String topic) throws Exception {
        return admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic);
    }

    private static void expectSettings(Admin admin, ConfigResource.Type type, String name, String... expected)
            throws Exception {
        ConfigResource resource = new ConfigResource(type, name);
        Config config = admin.describeConfigs(List.of(resource)).values().get(resource).get();
        Set<String> settings = config.entries().stream().map(ConfigEntry::name).collect(Collectors.toSet());
        Trial.expect(type + " settings " + settings, true, settings.containsAll(List.of(expected)));
    }
}
