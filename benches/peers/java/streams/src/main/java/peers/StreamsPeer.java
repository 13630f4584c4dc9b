package peers;

import ai.onnxruntime.OrtException;
import java.io.IOException;
import java.time.Duration;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.processor.api.ContextualProcessor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.RocksDBConfigSetter;
import org.apache.kafka.streams.state.StoreBuilder;
import org.apache.kafka.streams.state.Stores;
import org.rocksdb.BlockBasedTableConfig;
import org.rocksdb.BloomFilter;
import org.rocksdb.Options;

/** The workload on Kafka Streams' processor API, one event at a time. */
public final class StreamsPeer {
  private static final String STORE = "profiles";

  private StreamsPeer() {}

  public static void main(String[] arguments) throws InterruptedException {
    KafkaStreams streams = new KafkaStreams(topology(), properties());
    // Let the harness see a failure rather than replace the thread.
    streams.setUncaughtExceptionHandler(failure -> {
      failure.printStackTrace();
      return StreamThreadExceptionResponse.SHUTDOWN_APPLICATION;
    });
    CountDownLatch over = new CountDownLatch(1);
    streams.setStateListener((now, before) -> {
      if (now == KafkaStreams.State.ERROR) over.countDown();
    });
    Runtime.getRuntime().addShutdownHook(new Thread(() -> streams.close(Duration.ofSeconds(10))));
    streams.start();
    over.await();
    Runtime.getRuntime().halt(1);
  }

  private static Topology topology() {
    boolean inMemory = Setting.or("STORE", "memory").equals("memory");
    Serde<Profile> profiles = Serdes.serdeFrom(
        (topic, profile) -> profile == null ? null : profile.toBytes(),
        (topic, bytes) -> bytes == null ? null : Profile.ofBytes(bytes));
    StoreBuilder<KeyValueStore<String, Profile>> store = Stores.keyValueStoreBuilder(
            inMemory ? Stores.inMemoryKeyValueStore(STORE) : Stores.persistentKeyValueStore(STORE), Serdes.String(), profiles)
        .withCachingEnabled();
    String model = Setting.of("MODEL"), name = Setting.of("MODEL_NAME");
    return new Topology()
        .addSource("events", Serdes.String().deserializer(), Serdes.ByteArray().deserializer(), Setting.of("INPUT"))
        .addProcessor("decide", () -> new Decide(model, name), "events")
        .addStateStore(store, "decide")
        .addSink("decisions", Setting.of("OUTPUT"), Serdes.String().serializer(), Serdes.ByteArray().serializer(), "decide");
  }

  private static Properties properties() {
    boolean exactlyOnce = Setting.exactlyOnce();
    Properties it = new Properties();
    it.putAll(Map.of(
        StreamsConfig.APPLICATION_ID_CONFIG, Setting.of("GROUP"),
        StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, Setting.of("BROKERS"),
        StreamsConfig.STATE_DIR_CONFIG, Setting.of("STATE_DIR"),
        StreamsConfig.NUM_STREAM_THREADS_CONFIG, 2,
        StreamsConfig.PROCESSING_GUARANTEE_CONFIG, exactlyOnce ? StreamsConfig.EXACTLY_ONCE_V2 : StreamsConfig.AT_LEAST_ONCE,
        StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, Setting.or("INTERVAL", "100"),
        // A user's profile is serialized once per commit, not once per event.
        StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, 128L << 20,
        StreamsConfig.ROCKSDB_CONFIG_SETTER_CLASS_CONFIG, Rocks.class,
        StreamsConfig.REPLICATION_FACTOR_CONFIG, 1));
    it.putAll(Map.of(
        StreamsConfig.consumerPrefix(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG), "earliest",
        StreamsConfig.consumerPrefix(ConsumerConfig.CHECK_CRCS_CONFIG), false,
        StreamsConfig.consumerPrefix(ConsumerConfig.MAX_PARTITION_FETCH_BYTES_CONFIG), 2 << 20,
        // Commits, and the abort after a crash, happen only between two polls.
        StreamsConfig.consumerPrefix(ConsumerConfig.MAX_POLL_RECORDS_CONFIG), 1000,
        StreamsConfig.producerPrefix(ProducerConfig.BATCH_SIZE_CONFIG), 256 << 10,
        StreamsConfig.producerPrefix(ProducerConfig.BUFFER_MEMORY_CONFIG), 128L << 20,
        // A commit flushes, so with transactions a shorter linger makes no record visible sooner.
        StreamsConfig.producerPrefix(ProducerConfig.LINGER_MS_CONFIG), exactlyOnce ? 100 : 5));
    return it;
  }

  private static final class Decide extends ContextualProcessor<String, byte[], String, byte[]> {
    private final String path, model;
    private final float[] row = new float[Profile.FEATURES];
    private KeyValueStore<String, Profile> profiles;
    private Scorer scorer;

    Decide(String path, String model) {
      this.path = path;
      this.model = model;
    }

    @Override
    public void init(ProcessorContext<String, byte[]> context) {
      super.init(context);
      profiles = context.getStateStore(STORE);
      try {
        scorer = new Scorer(path, 1);
      } catch (OrtException failure) {
        throw new IllegalStateException("load the model " + path, failure);
      }
    }

    @Override
    public void process(Record<String, byte[]> record) {
      try {
        Click click = Click.read(record.value());
        Profile profile = profiles.get(click.user);
        if (profile == null) profile = new Profile();
        profile.take(click, row);
        profiles.put(click.user, profile);
        scorer.put(0, row);
        scorer.run(1);
        context().forward(record.withValue(click.decide(scorer.score(0), model)));
      } catch (IOException | OrtException failure) {
        throw new IllegalStateException("decide on an event of " + record.key(), failure);
      }
    }

    @Override
    public void close() {
      try {
        scorer.close();
      } catch (OrtException failure) {
        throw new IllegalStateException("close the model", failure);
      }
    }
  }

  /** Point lookups that mostly hit: a Bloom filter, and larger memtables than the default of 16 MiB. */
  public static final class Rocks implements RocksDBConfigSetter {
    private final BloomFilter filter = new BloomFilter();

    @Override
    public void setConfig(String store, Options options, Map<String, Object> all) {
      BlockBasedTableConfig table = (BlockBasedTableConfig) options.tableFormatConfig();
      options.setTableFormatConfig(table.setFilterPolicy(filter));
      options.setWriteBufferSize(32L << 20);
    }

    @Override
    public void close(String store, Options options) {
      filter.close();
    }
  }
}
