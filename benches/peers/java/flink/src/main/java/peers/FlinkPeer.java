package peers;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.FileTime;
import java.util.Map;
import java.util.Optional;
import java.util.stream.Stream;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.connector.base.DeliveryGuarantee;
import org.apache.flink.connector.kafka.sink.KafkaRecordSerializationSchema;
import org.apache.flink.connector.kafka.sink.KafkaSink;
import org.apache.flink.connector.kafka.source.KafkaSource;
import org.apache.flink.connector.kafka.source.enumerator.initializer.OffsetsInitializer;
import org.apache.flink.connector.kafka.source.reader.deserializer.KafkaRecordDeserializationSchema;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.util.Collector;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.producer.ProducerRecord;

/** The workload on Flink's DataStream API in a local mini cluster, scored in batches. */
public final class FlinkPeer {
  private FlinkPeer() {}

  public static void main(String[] arguments) throws Exception {
    StreamExecutionEnvironment flink = StreamExecutionEnvironment.getExecutionEnvironment(configuration());
    flink.fromSource(source(), WatermarkStrategy.noWatermarks(), "events")
        .keyBy(click -> click.user)
        .transform("decide", TypeInformation.of(Decided.class), new Decide(Setting.of("MODEL"), Setting.of("MODEL_NAME")))
        .sinkTo(sink())
        .name("decisions");
    flink.execute("peers");
  }

  private static Configuration configuration() throws IOException {
    Path checkpoints = Path.of(Setting.of("STATE_DIR"), "checkpoints");
    Configuration it = Configuration.fromMap(Map.of(
        "parallelism.default", "2",
        "taskmanager.numberOfTaskSlots", "2",
        "taskmanager.memory.managed.size", "64m",
        // Events are passed between operators without copying, and to the next task within 5 ms.
        "pipeline.object-reuse", "true",
        "execution.buffer-timeout.interval", "5 ms",
        "state.backend.type", "hashmap",
        // Let the harness see a failure.
        "restart-strategy.type", "none"));
    it.setString("execution.checkpointing.interval", Setting.or("INTERVAL", "1000") + " ms");
    it.setString("execution.checkpointing.mode", Setting.exactlyOnce() ? "EXACTLY_ONCE" : "AT_LEAST_ONCE");
    it.setString("execution.checkpointing.storage", "filesystem");
    it.setString("execution.checkpointing.dir", checkpoints.toUri().toString());
    it.setString("execution.checkpointing.externalized-checkpoint-retention", "RETAIN_ON_CANCELLATION");
    // As a supervisor does after a crash: continue from the last complete checkpoint.
    Optional<Path> last = newest(checkpoints);
    if (last.isPresent()) it.setString("execution.state-recovery.path", last.get().toUri().toString());
    return it;
  }

  private static Optional<Path> newest(Path checkpoints) throws IOException {
    if (Files.notExists(checkpoints)) return Optional.empty();
    Path last = null;
    FileTime time = FileTime.fromMillis(0);
    try (Stream<Path> all = Files.find(checkpoints, 4, (path, its) -> path.endsWith("_metadata"))) {
      for (Path path : (Iterable<Path>) all::iterator) {
        FileTime its = Files.getLastModifiedTime(path);
        if (its.compareTo(time) > 0) {
          time = its;
          last = path.getParent();
        }
      }
    }
    return Optional.ofNullable(last);
  }

  private static KafkaSource<Click> source() {
    return KafkaSource.<Click>builder()
        .setBootstrapServers(Setting.of("BROKERS"))
        .setTopics(Setting.of("INPUT"))
        .setGroupId(Setting.of("GROUP"))
        .setStartingOffsets(OffsetsInitializer.earliest())
        .setDeserializer(new Reading())
        .setProperty("check.crcs", "false")
        .setProperty("max.poll.records", "2000")
        .setProperty("max.partition.fetch.bytes", "2097152")
        .build();
  }

  private static KafkaSink<Decided> sink() {
    return KafkaSink.<Decided>builder()
        .setBootstrapServers(Setting.of("BROKERS"))
        .setRecordSerializer(new Writing(Setting.of("OUTPUT")))
        .setDeliveryGuarantee(Setting.exactlyOnce() ? DeliveryGuarantee.EXACTLY_ONCE : DeliveryGuarantee.AT_LEAST_ONCE)
        .setTransactionalIdPrefix(Setting.of("GROUP"))
        // Below the broker's maximum, and far longer than a checkpoint.
        .setProperty("transaction.timeout.ms", "300000")
        .setProperty("batch.size", "262144")
        .setProperty("linger.ms", "5")
        .setProperty("buffer.memory", "134217728")
        .build();
  }

  /** A decision on its way to the sink. */
  public static class Decided {
    public String user;
    public byte[] json;
  }

  private static final class Reading implements KafkaRecordDeserializationSchema<Click> {
    @Override
    public void deserialize(ConsumerRecord<byte[], byte[]> record, Collector<Click> to) throws IOException {
      to.collect(Click.read(record.value()));
    }

    @Override
    public TypeInformation<Click> getProducedType() {
      return TypeInformation.of(Click.class);
    }
  }

  private static final class Writing implements KafkaRecordSerializationSchema<Decided> {
    private final String topic;

    Writing(String topic) {
      this.topic = topic;
    }

    @Override
    public ProducerRecord<byte[], byte[]> serialize(Decided it, KafkaSinkContext context, Long timestamp) {
      return new ProducerRecord<>(topic, it.user.getBytes(StandardCharsets.ISO_8859_1), it.json);
    }
  }
}
