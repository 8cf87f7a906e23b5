import static java.time.Duration.ofMinutes;
import static java.time.Duration.ofSeconds;

import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.CloseOptions;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.kstream.EmitStrategy;
import org.apache.kafka.streams.kstream.JoinWindows;
import org.apache.kafka.streams.kstream.KGroupedStream;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.KTable;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.SessionWindows;
import org.apache.kafka.streams.kstream.StreamJoined;
import org.apache.kafka.streams.kstream.Suppressed;
import org.apache.kafka.streams.kstream.Suppressed.BufferConfig;
import org.apache.kafka.streams.kstream.TableJoined;
import org.apache.kafka.streams.kstream.TimeWindows;
import org.apache.kafka.streams.kstream.Windowed;
import org.apache.kafka.streams.processor.api.ContextualProcessor;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.Stores;

/**
 * Kafka Streams' side of the tests in mod.rs: the topologies of topology.rs, line by line, run on the broker until SIGTERM.
 * Arguments: bootstrap servers, application id, state folder, then the parts to run. Prints the topology's description first.
 */
public final class Interop {
    public static void main(final String[] arguments) throws InterruptedException {
        final Properties config = config(arguments[0], arguments[1], arguments[2]);
        final StreamsBuilder builder = new StreamsBuilder();
        for (int i = 3; i < arguments.length; i++) {
            part(arguments[i], builder, arguments[1] + "-");
        }
        final Topology topology = builder.build(config);
        System.out.println(topology.describe() + "end of the topology");
        final KafkaStreams streams = new KafkaStreams(topology, config);
        streams.setUncaughtExceptionHandler(error -> {
            error.printStackTrace();
            return StreamThreadExceptionResponse.SHUTDOWN_CLIENT;
        });
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            final CloseOptions options =
                CloseOptions.groupMembershipOperation(CloseOptions.GroupMembershipOperation.LEAVE_GROUP);
            System.out.println("closed in time: " + streams.close(options.withTimeout(ofSeconds(30))));
        }));
        streams.start();
        new CountDownLatch(1).await();
    }

    private static Properties config(final String servers, final String application, final String folder) {
        final Properties config = new Properties();
        config.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, servers);
        config.put(StreamsConfig.APPLICATION_ID_CONFIG, application);
        config.put(StreamsConfig.STATE_DIR_CONFIG, folder);
        config.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
        config.put(StreamsConfig.DEFAULT_KEY_SERDE_CLASS_CONFIG, Serdes.StringSerde.class);
        config.put(StreamsConfig.DEFAULT_VALUE_SERDE_CLASS_CONFIG, Serdes.StringSerde.class);
        config.put(StreamsConfig.REPLICATION_FACTOR_CONFIG, 1);
        // Every update is a result, and none waits for the wall clock.
        config.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, 0);
        config.put(StreamsConfig.InternalConfig.EMIT_INTERVAL_MS_KSTREAMS_WINDOWED_AGGREGATION, 0L);
        config.put(StreamsConfig.InternalConfig.EMIT_INTERVAL_MS_KSTREAMS_OUTER_JOIN_SPURIOUS_RESULTS_FIX, 0L);
        config.put("session.timeout.ms", 6000);
        config.put("heartbeat.interval.ms", 1000);
        return config;
    }

    private static void part(final String part, final StreamsBuilder builder, final String prefix) {
        switch (part) {
            case "tables" -> tables(builder, prefix);
            case "versioned" -> versioned(builder, prefix);
            case "foreign" -> foreign(builder, prefix);
            case "clock" -> clock(builder, prefix);
            case "windows" -> windows(builder, prefix);
            case "closing" -> closing(builder, prefix);
            case "sessions" -> sessions(builder, prefix);
            case "suppressed" -> suppressed(builder, prefix);
            case "pairs" -> pairs(builder, prefix);
            default -> throw new IllegalArgumentException("no part \"" + part + "\"");
        }
    }

    private static void tables(final StreamsBuilder builder, final String prefix) {
        final KTable<String, String> table = builder.table(prefix + "table-in", Materialized.as("table"));
        table.toStream().to(prefix + "table-out");
        final KStream<String, String> stream = builder.stream(prefix + "stream-in");
        stream.leftJoin(table, (value, row) -> value + "+" + row).to(prefix + "joined-out");
        stream.groupByKey().count(Materialized.as("counts"))
            .toStream().mapValues(count -> count.toString()).to(prefix + "counts-out");
    }

    private static void versioned(final StreamsBuilder builder, final String prefix) {
        final KTable<String, String> prices = builder.table(prefix + "prices-in",
            Materialized.as(Stores.persistentVersionedKeyValueStore("prices", ofMinutes(10))));
        final KStream<String, String> sales = builder.stream(prefix + "sales-in");
        sales.leftJoin(prices, (sale, price) -> sale + "+" + price).to(prefix + "sold-out");
    }

    private static void foreign(final StreamsBuilder builder, final String prefix) {
        final KTable<String, String> orders = builder.table(prefix + "orders-in", Materialized.as("orders"));
        final KTable<String, String> customers = builder.table(prefix + "customers-in", Materialized.as("customers"));
        final KTable<String, String> joined = orders.leftJoin(customers, order -> order.substring(0, 1),
            (order, customer) -> order + "+" + customer, TableJoined.as("belongs"), Materialized.as("belonging"));
        joined.toStream().to(prefix + "belonging-out");
    }

    private static void clock(final StreamsBuilder builder, final String prefix) {
        builder.<String, String>stream(prefix + "clock-in").process(Clock::new).to(prefix + "clock-out");
    }

    private static final class Clock extends ContextualProcessor<String, String, String, String> {
        @Override
        public void process(final Record<String, String> record) {
            context().forward(record.withValue(Long.toString(context().currentStreamTimeMs())));
        }
    }

    private static String name(final Windowed<String> key) {
        return key.key() + "@" + key.window().start() + "/" + key.window().end();
    }

    private static KGroupedStream<String, String> grouped(final StreamsBuilder builder, final String topic) {
        return builder.<String, String>stream(topic).groupByKey();
    }

    private static void write(final KTable<Windowed<String>, Long> counts, final String topic) {
        counts.toStream((key, count) -> name(key))
            .mapValues(count -> count == null ? null : count.toString()).to(topic);
    }

    private static TimeWindows tenSeconds() {
        return TimeWindows.ofSizeAndGrace(ofSeconds(10), ofSeconds(5));
    }

    private static void windows(final StreamsBuilder builder, final String prefix) {
        write(grouped(builder, prefix + "windows-in").windowedBy(tenSeconds()).count(Materialized.as("windows")),
            prefix + "windows-out");
    }

    private static void closing(final StreamsBuilder builder, final String prefix) {
        write(grouped(builder, prefix + "closing-in").windowedBy(tenSeconds())
            .emitStrategy(EmitStrategy.onWindowClose()).count(Materialized.as("closing")), prefix + "closing-out");
    }

    private static void sessions(final StreamsBuilder builder, final String prefix) {
        final SessionWindows windows = SessionWindows.ofInactivityGapAndGrace(ofSeconds(10), ofSeconds(5));
        write(grouped(builder, prefix + "sessions-in").windowedBy(windows).count(Materialized.as("sessions")),
            prefix + "sessions-out");
    }

    private static void suppressed(final StreamsBuilder builder, final String prefix) {
        write(grouped(builder, prefix + "suppressed-in").windowedBy(tenSeconds()).count(Materialized.as("suppressed"))
            .suppress(Suppressed.untilWindowCloses(BufferConfig.unbounded()).withName("until-closed")),
            prefix + "suppressed-out");
    }

    private static void pairs(final StreamsBuilder builder, final String prefix) {
        final KStream<String, String> left = builder.stream(prefix + "left-in");
        final KStream<String, String> right = builder.stream(prefix + "right-in");
        left.outerJoin(right, (one, other) -> one + "+" + other,
            JoinWindows.ofTimeDifferenceAndGrace(ofSeconds(10), ofSeconds(5)),
            StreamJoined.<String, String, String>as("pairs").withStoreName("pairs")).to(prefix + "pairs-out");
    }
}
