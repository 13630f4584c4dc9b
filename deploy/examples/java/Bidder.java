import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.MissingNode;
import java.io.IOException;
import java.net.URI;
import java.net.URLEncoder;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.time.Instant;
import java.time.temporal.ChronoUnit;
import java.util.HashMap;
import java.util.Locale;
import java.util.Map;
import java.util.Properties;
import java.util.StringJoiner;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.StringDeserializer;

/**
 * A bidder that uses the decisions of Aimpoint.
 *
 * <pre>
 * java -cp 'jars/*' Bidder.java lookup USER           ask `aimpoint serve` for a user's decision
 * java -cp 'jars/*' Bidder.java enrich <request.json  have a bid request enriched by `aimpoint serve`
 * java -cp 'jars/*' Bidder.java follow USER           keep all decisions in memory, from the topic, and say what changes
 * </pre>
 *
 * USER is the key of a record: the id of a person, or device:ID, app:ID. The environment says where everything is: SERVE
 * (http://127.0.0.1:9470), SERVE_TOKEN, TIMEOUT_MS (10), KAFKA (localhost:9092), TOPIC (decisions). It needs the jars
 * org.apache.kafka:kafka-clients and com.fasterxml.jackson.core:jackson-databind, and what they need.
 *
 * If there is no answer in time, the bidder goes on without a decision: it never waits for one.
 */
public class Bidder {
    static final ObjectMapper JSON = new ObjectMapper();
    /** It keeps its connections; a bidder has one of it. */
    static final HttpClient SERVE = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();

    static String setting(String name, String otherwise) {
        return System.getenv().getOrDefault(name, otherwise);
    }

    /** What a bidder needs of a decision. */
    static String inWords(String user, JsonNode decision) {
        if (decision.isMissingNode()) {
            return user + ": nothing is known";
        }
        // Integers of 64 bits are strings in the JSON of Protobuf. Times are in microseconds since 1970.
        long now = ChronoUnit.MICROS.between(Instant.EPOCH, Instant.now());
        if (decision.path("expires_at").asLong() <= now) {
            return user + ": expired";
        }
        StringJoiner segments = new StringJoiner(", ").setEmptyValue("no segment");
        decision.path("segments").forEach(segment -> segments.add(segment.path("id").asText()));
        String bid = "no bid";
        // Best first. Prices are in millionths, per thousand impressions.
        JsonNode offer = decision.path("campaigns").path(0);
        if (!offer.isMissingNode()) {
            long shaded = offer.path("shaded_micros").asLong();
            double price = (shaded > 0 ? shaded : offer.path("bid_micros").asLong()) / 1e6;
            bid = String.format(Locale.ROOT, "bid %.2f %s for %s", price, offer.path("currency").asText(), offer.path("id").asText());
        }
        return user + ": in " + segments + "; " + bid;
    }

    static HttpResponse<byte[]> ask(String path, HttpRequest.Builder request) throws IOException, InterruptedException {
        return SERVE.send(request.uri(URI.create(setting("SERVE", "http://127.0.0.1:9470") + path))
            .timeout(Duration.ofMillis(Long.parseLong(setting("TIMEOUT_MS", "10"))))
            .header("Authorization", "Bearer " + setting("SERVE_TOKEN", "")).build(), HttpResponse.BodyHandlers.ofByteArray());
    }

    static void lookup(String user) throws IOException, InterruptedException {
        String key = URLEncoder.encode(user, StandardCharsets.UTF_8).replace("+", "%20");
        HttpResponse<byte[]> answer = ask("/v1/decisions/" + key, HttpRequest.newBuilder().GET());
        switch (answer.statusCode()) {
            case 200 -> System.out.println(inWords(user, JSON.readTree(answer.body())));
            case 410 -> System.out.println(user + ": expired");
            case 404 -> System.out.println(inWords(user, MissingNode.getInstance()));
            // Overloaded (429) or not permitted (401).
            default -> throw new IOException(user + ": no answer (" + answer.statusCode() + ")");
        }
    }

    /** Has a bid request enriched. Without an answer, the bidder bids on it as it is. */
    static void enrich() throws IOException, InterruptedException {
        byte[] request = System.in.readAllBytes();
        String outcome = "no answer";
        try {
            var body = HttpRequest.BodyPublishers.ofByteArray(request);
            HttpResponse<byte[]> answer = ask("/openrtb2/enrich", HttpRequest.newBuilder().POST(body));
            if (answer.statusCode() == 200) {
                request = answer.body();
                outcome = answer.headers().firstValue("aimpoint-outcome").orElse("");
            }
        } catch (IOException late) {
            outcome = "no answer";
        }
        System.err.println("outcome: " + outcome);
        System.out.write(request);
        System.out.flush();
    }

    /** Reads the whole topic, then follows it. Every process needs all decisions, so it joins no group. */
    static void follow(String user) throws IOException {
        String topic = setting("TOPIC", "decisions");
        Properties settings = new Properties();
        settings.put("bootstrap.servers", setting("KAFKA", "localhost:9092"));
        // Only what was committed: each event has one decision.
        settings.put("isolation.level", "read_committed");
        settings.put("enable.auto.commit", "false");
        try (var consumer = new KafkaConsumer<>(settings, new StringDeserializer(), new ByteArrayDeserializer())) {
            var partitions = consumer.partitionsFor(topic).stream().map(it -> new TopicPartition(topic, it.partition())).toList();
            consumer.assign(partitions);
            consumer.seekToBeginning(partitions);
            Map<TopicPartition, Long> behind = new HashMap<>(consumer.endOffsets(partitions));
            Map<String, JsonNode> latest = new HashMap<>();
            boolean wasBehind = true;
            while (true) {
                boolean isNews = false;
                for (var record : consumer.poll(Duration.ofSeconds(1))) {
                    try {
                        if (record.value() == null) {
                            latest.remove(record.key()); // The user was erased.
                        } else {
                            latest.put(record.key(), JSON.readTree(record.value()));
                        }
                        isNews |= user.equals(record.key());
                    } catch (IOException noJson) {
                        System.err.println(topic + "/" + record.partition() + " offset " + record.offset()
                            + ": no JSON; this example needs decision.format = json");
                    }
                }
                behind.entrySet().removeIf(it -> consumer.position(it.getKey()) >= it.getValue());
                // While it is behind, a later decision may follow.
                if (behind.isEmpty() && (isNews || wasBehind)) {
                    System.out.println(inWords(user, latest.getOrDefault(user, MissingNode.getInstance())));
                    wasBehind = false;
                }
            }
        }
    }

    public static void main(String[] arguments) throws Exception {
        switch (String.join(" ", arguments).split(" ")[0] + arguments.length) {
            case "lookup2" -> lookup(arguments[1]);
            case "enrich1" -> enrich();
            case "follow2" -> follow(arguments[1]);
            default -> throw new IllegalArgumentException("lookup USER | enrich | follow USER");
        }
    }
}
