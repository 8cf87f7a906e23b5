import java.lang.management.ManagementFactory;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Locale;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.CloseOptions;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.processor.StateRestoreListener;

/**
 * Kafka Streams' side of restore.rs: restores the changelog of an application into an empty folder, and prints one JSON line.
 * Arguments: bootstrap servers, application, records, partitions, an empty folder, stream threads.
 */
public final class Restore {
    public static void main(final String[] arguments) throws Exception {
        final String application = arguments[1];
        final long wanted = Long.parseLong(arguments[2]);
        final Properties config = new Properties();
        config.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, arguments[0]);
        config.put(StreamsConfig.APPLICATION_ID_CONFIG, application);
        config.put(StreamsConfig.STATE_DIR_CONFIG, arguments[4]);
        config.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
        config.put(StreamsConfig.DEFAULT_KEY_SERDE_CLASS_CONFIG, Serdes.StringSerde.class);
        config.put(StreamsConfig.DEFAULT_VALUE_SERDE_CLASS_CONFIG, Serdes.StringSerde.class);
        config.put(StreamsConfig.REPLICATION_FACTOR_CONFIG, 1);
        config.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, Integer.parseInt(arguments[5]));
        final StreamsBuilder builder = new StreamsBuilder();
        builder.<String, String>stream(application + "-in").groupByKey().reduce((old, next) -> next, Materialized.as("rows"));
        final Watch watch = new Watch(Integer.parseInt(arguments[3]));
        final KafkaStreams streams = new KafkaStreams(builder.build(config), config);
        streams.setGlobalStateRestoreListener(watch);
        streams.start();
        watch.done.await();
        final double seconds = (System.nanoTime() - watch.startedAt.get()) / 1e9;
        final double cpu = (cpuNanos() - watch.cpuAtStart.get()) / 1e9;
        if (watch.restored.get() != wanted) {
            throw new IllegalStateException("restored " + watch.restored.get() + " records, wanted " + wanted);
        }
        final String rss = Files.readAllLines(Path.of("/proc/self/status")).stream()
            .filter(line -> line.startsWith("VmHWM:")).findFirst().orElseThrow().replaceAll("\\D", "");
        System.out.printf(Locale.ROOT, "{\"engine\":\"kafka-streams\",\"workload\":\"restore\",\"mode\":\"eos\",\"records\":%d,"
            + "\"first_to_committed_s\":%.3f,\"cpu_run_s\":%.3f,\"rec_per_s\":%.0f,\"rec_per_cpu_s\":%.0f,\"peak_rss_mb\":%d}%n",
            wanted, seconds, cpu, wanted / seconds, wanted / cpu, Long.parseLong(rss) / 1024);
        streams.close(CloseOptions.groupMembershipOperation(CloseOptions.GroupMembershipOperation.LEAVE_GROUP)
            .withTimeout(Duration.ofSeconds(60)));
        System.exit(0);
    }

    private static long cpuNanos() {
        return ((com.sun.management.OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean()).getProcessCpuTime();
    }

    /** From the first changelog's start to the last one's end. */
    private static final class Watch implements StateRestoreListener {
        final AtomicLong startedAt = new AtomicLong();
        final AtomicLong cpuAtStart = new AtomicLong();
        final AtomicLong restored = new AtomicLong();
        final CountDownLatch done;

        Watch(final int partitions) {
            done = new CountDownLatch(partitions);
        }

        @Override
        public void onRestoreStart(final TopicPartition partition, final String store, final long start, final long end) {
            if (startedAt.compareAndSet(0, System.nanoTime())) {
                cpuAtStart.set(cpuNanos());
            }
        }

        @Override
        public void onBatchRestored(final TopicPartition partition, final String store, final long end, final long count) {
        }

        @Override
        public void onRestoreEnd(final TopicPartition partition, final String store, final long total) {
            restored.addAndGet(total);
            done.countDown();
        }
    }
}
