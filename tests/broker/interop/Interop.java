import static java.time.Duration.ofMinutes;
import static java.time.Duration.ofSeconds;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.util.Properties;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.CloseOptions;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.kstream.EmitStrategy;
import org.apache.kafka.streams.kstream.GlobalKTable;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.JoinWindows;
import org.apache.kafka.streams.kstream.Joined;
import org.apache.kafka.streams.kstream.KGroupedStream;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.KTable;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.SessionWindows;
import org.apache.kafka.streams.kstream.SlidingWindows;
import org.apache.kafka.streams.kstream.StreamJoined;
import org.apache.kafka.streams.kstream.Suppressed;
import org.apache.kafka.streams.kstream.Suppressed.BufferConfig;
import org.apache.kafka.streams.kstream.TableJoined;
import org.apache.kafka.streams.kstream.TimeWindows;
import org.apache.kafka.streams.kstream.Windowed;
import org.apache.kafka.streams.processor.api.ContextualProcessor;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.SessionStore;
import org.apache.kafka.streams.state.Stores;
import org.apache.kafka.streams.state.WindowStore;

/**
 * Kafka Streams' side of the test in mod.rs: the topologies of parts.rs, windowed.rs and joined.rs, line by line, run on the broker.
 * Arguments: bootstrap servers, then the parts to run. Commands come line by line: "start APPLICATION FOLDER", which prints the topology's
 * description, and "close"; what is printed last names the folder.
 */
public final class Interop {
    public static void main(final String[] arguments) throws IOException {
        final BufferedReader commands = new BufferedReader(new InputStreamReader(System.in));
        KafkaStreams streams = null;
        String folder = null;
        for (String line = commands.readLine(); line != null; line = commands.readLine()) {
            final String[] words = line.split(" ");
            if (words[0].equals("start")) {
                folder = words[2];
                streams = start(arguments, words[1], folder);
            } else {
                final CloseOptions options =
                    CloseOptions.groupMembershipOperation(CloseOptions.GroupMembershipOperation.LEAVE_GROUP);
                System.out.println("closed in time: " + streams.close(options.withTimeout(ofSeconds(30))) + " in " + folder);
            }
        }
        System.exit(0);
    }

    private static KafkaStreams start(final String[] arguments, final String application, final String folder) {
        final Properties config = config(arguments[0], application, folder);
        final StreamsBuilder builder = new StreamsBuilder();
        for (int i = 1; i < arguments.length; i++) {
            part(arguments[i], builder, application + "-");
        }
        final Topology topology = builder.build(config);
        System.out.println(topology.describe() + "end of the topology in " + folder);
        final KafkaStreams streams = new KafkaStreams(topology, config);
        streams.setUncaughtExceptionHandler(error -> {
            error.printStackTrace();
            return StreamThreadExceptionResponse.SHUTDOWN_CLIENT;
        });
        streams.start();
        return streams;
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
        // A slow machine must not look like a dead one: closing leaves the group.
        config.put(StreamsConfig.producerPrefix("transaction.timeout.ms"), 60_000);
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
            case "suppressed" -> suppressed(builder, prefix);
            case "cogrouped" -> cogrouped(builder, prefix);
            case "pairs" -> pairs(builder, prefix);
            case "buffered" -> buffered(builder, prefix);
            case "global" -> global(builder, prefix);
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
        // Suppression knows the serdes of windowed keys only where they were given.
        return builder.<String, String>stream(topic).groupByKey(Grouped.with(Serdes.String(), Serdes.String()));
    }

    private static void write(final KTable<Windowed<String>, ?> table, final String topic) {
        table.toStream((key, value) -> name(key))
            .mapValues(value -> value == null ? null : value.toString()).to(topic);
    }

    private static final TimeWindows TUMBLING = TimeWindows.ofSizeAndGrace(ofSeconds(10), ofSeconds(5));
    private static final TimeWindows HOPPING = TUMBLING.advanceBy(ofSeconds(5));
    private static final SlidingWindows SLIDING = SlidingWindows.ofTimeDifferenceAndGrace(ofSeconds(4), ofSeconds(5));
    private static final SessionWindows SESSIONS = SessionWindows.ofInactivityGapAndGrace(ofSeconds(4), ofSeconds(5));
    private static final JoinWindows NEAR = JoinWindows.ofTimeDifferenceAndGrace(ofSeconds(10), ofSeconds(5));

    private static void windows(final StreamsBuilder builder, final String prefix) {
        final KGroupedStream<String, String> grouped = grouped(builder, prefix + "windows-in");
        write(grouped.windowedBy(TUMBLING).count(Materialized.as("tumbling")), prefix + "tumbling-out");
        write(grouped.windowedBy(HOPPING).count(Materialized.as("hopping")), prefix + "hopping-out");
        write(grouped.windowedBy(SLIDING).count(Materialized.as("sliding")), prefix + "sliding-out");
        write(grouped.windowedBy(SESSIONS).count(Materialized.as("sessions")), prefix + "sessions-out");
    }

    private static Materialized<String, Long, WindowStore<Bytes, byte[]>> kept(final String store) {
        return Materialized.<String, Long, WindowStore<Bytes, byte[]>>as(store).withRetention(ofMinutes(10));
    }

    private static void closing(final StreamsBuilder builder, final String prefix) {
        final EmitStrategy strategy = EmitStrategy.onWindowClose();
        final KGroupedStream<String, String> grouped = grouped(builder, prefix + "closing-in");
        write(grouped.windowedBy(TUMBLING).emitStrategy(strategy).count(kept("closed-tumbling")),
            prefix + "closed-tumbling-out");
        write(grouped.windowedBy(HOPPING).emitStrategy(strategy).count(kept("closed-hopping")),
            prefix + "closed-hopping-out");
        write(grouped.windowedBy(SLIDING).emitStrategy(strategy).count(kept("closed-sliding")),
            prefix + "closed-sliding-out");
        write(grouped.windowedBy(SESSIONS).emitStrategy(strategy).count(Materialized.<String, Long, SessionStore<Bytes, byte[]>>as("closed-sessions").withRetention(ofMinutes(10))),
            prefix + "closed-sessions-out");
    }

    private static void suppressed(final StreamsBuilder builder, final String prefix) {
        final KGroupedStream<String, String> grouped = grouped(builder, prefix + "suppressed-in");
        write(grouped.windowedBy(TUMBLING).count(Materialized.as("suppressed"))
            .suppress(Suppressed.untilWindowCloses(BufferConfig.unbounded()).withName("until-closed")),
            prefix + "final-out");
        grouped.count(Materialized.as("busy"))
            .suppress(Suppressed.<String>untilTimeLimit(ofSeconds(5), BufferConfig.maxRecords(100)).withName("until-calm"))
            .toStream().mapValues(count -> count.toString()).to(prefix + "calm-out");
    }

    private static void cogrouped(final StreamsBuilder builder, final String prefix) {
        final KGroupedStream<String, String> one = grouped(builder, prefix + "one-in");
        final KGroupedStream<String, String> two = grouped(builder, prefix + "two-in");
        write(one.<String>cogroup((key, value, all) -> all + value).cogroup(two, (key, value, all) -> all + value)
            .windowedBy(TUMBLING).aggregate(() -> "", Materialized.as("cogrouped")), prefix + "cogrouped-out");
    }

    private static StreamJoined<String, String, String> named(final String name) {
        return StreamJoined.as(name);
    }

    private static void pairs(final StreamsBuilder builder, final String prefix) {
        final KStream<String, String> left = builder.stream(prefix + "left-in");
        final KStream<String, String> right = builder.stream(prefix + "right-in");
        left.join(right, (one, other) -> one + "+" + other, NEAR, named("inner")).to(prefix + "inner-out");
        left.leftJoin(right, (one, other) -> one + "+" + other, NEAR, named("left")).to(prefix + "left-out");
        left.outerJoin(right, (one, other) -> one + "+" + other, NEAR, named("outer")).to(prefix + "outer-out");
    }

    private static void buffered(final StreamsBuilder builder, final String prefix) {
        final KTable<String, String> rates = builder.table(prefix + "rates-in",
            Materialized.as(Stores.persistentVersionedKeyValueStore("rates", ofMinutes(10))));
        final KStream<String, String> trades = builder.stream(prefix + "trades-in");
        trades.leftJoin(rates, (trade, rate) -> trade + "+" + rate,
            Joined.<String, String, String>as("buffered").withGracePeriod(ofSeconds(10))).to(prefix + "traded-out");
    }

    private static void global(final StreamsBuilder builder, final String prefix) {
        final GlobalKTable<String, String> names = builder.globalTable(prefix + "names-in", Materialized.as("names"));
        builder.<String, String>stream(prefix + "calls-in")
            .leftJoin(names, (key, number) -> number, (number, called) -> number + "+" + called)
            .to(prefix + "called-out");
    }
}
