import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.FutureTask;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;

/** Runs scenarios one after the other, each with a time limit, and prints one line for each. */
final class Harness {
    private static final int LIMIT_SECONDS = 90;

    /** Returns its figures; throws if the broker does anything but what it should. */
    interface Scenario {
        String run(Trial trial) throws Exception;
    }

    private static Map<String, Scenario> scenarios() {
        Map<String, Scenario> all = new LinkedHashMap<>();
        all.put("produce-consume", Records::produceConsume);
        all.put("codecs", Records::codecs);
        all.put("auto-create", Records::autoCreate);
        all.put("acks", Records::acks);
        all.put("list-offsets", Offsets::listOffsets);
        all.put("admin", Topics::admin);
        all.put("committed-offsets", Offsets::committedOffsets);
        all.put("long-poll", Records::longPoll);
        all.put("big", Records::big);
        all.put("idempotent", Records::idempotent);
        all.put("out-of-range", Offsets::outOfRange);
        all.put("groups-eager", Groups::eager);
        all.put("groups-cooperative", Groups::cooperative);
        all.put("groups-server", Groups::server);
        return all;
    }

    public static void main(String[] arguments) throws Exception {
        Map<String, Scenario> all = scenarios();
        Map<String, String> options = new HashMap<>();
        List<String> chosen = new ArrayList<>();
        String logLevel = "off";
        for (int i = 0; i < arguments.length; i++) {
            switch (arguments[i]) {
                case "--scenario" -> chosen.add(arguments[++i]);
                case "--producer" -> options.put("--producer", "");
                case "--verbose" -> logLevel = "debug";
                default -> options.put(arguments[i], arguments[++i]);
            }
        }
        System.setProperty("org.slf4j.simpleLogger.defaultLogLevel", logLevel);
        if (options.containsKey("--member")) {
            Member.run(options);
            return;
        }
        if (options.containsKey("--producer")) {
            Producer.run(options);
            return;
        }
        String bootstrap = options.get("--bootstrap");
        boolean passed = true;
        for (String name : chosen.isEmpty() ? all.keySet() : chosen) {
            Scenario scenario = all.getOrDefault(name, trial -> {
                throw new IllegalArgumentException("no such scenario");
            });
            passed &= report(name, scenario, new Trial(bootstrap));
        }
        System.exit(passed ? 0 : 1);
    }

    private static boolean report(String name, Scenario scenario, Trial trial) {
        FutureTask<String> task = new FutureTask<>(() -> {
            try (trial) {
                return scenario.run(trial);
            }
        });
        Thread thread = new Thread(task, name);
        thread.setDaemon(true);
        thread.start();
        long start = System.nanoTime();
        try {
            String figures = task.get(LIMIT_SECONDS, TimeUnit.SECONDS);
            System.out.printf("ok java %s (%s, %.1f s)%n", name, figures, (System.nanoTime() - start) / 1e9);
            return true;
        } catch (Exception e) {
            Object reason = e instanceof TimeoutException ? "no end within " + LIMIT_SECONDS + " s" : e.getCause();
            System.out.printf("FAILED java %s: %s: %s%n", name, trial.step(), reason.toString().replace('\n', ' '));
            return false;
        }
    }
}
