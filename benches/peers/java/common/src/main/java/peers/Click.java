package peers;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.List;

/** An event of the workload, reduced to what the features and the decision need. A POJO for Flink. */
public class Click {
  /** The types, in feature order. */
  private static final List<String> TYPES = List.of("view", "click", "cart", "purchase");
  static final int VIEW = 0, PURCHASE = 3;
  private static final JsonFactory FACTORY = new JsonFactory();

  public String id;
  public String user;
  public int type;
  public long at;
  public double value;
  public long dwell;

  /** Reads the JSON with a pull parser, which builds no tree. */
  public static Click read(byte[] json) throws IOException {
    Click click = new Click();
    try (JsonParser parser = FACTORY.createParser(json)) {
      parser.nextToken();
      String name;
      while ((name = parser.nextFieldName()) != null) {
        parser.nextToken();
        switch (name) {
          case "event_id" -> click.id = parser.getText();
          case "user_id" -> click.user = parser.getText();
          case "type" -> click.type = TYPES.indexOf(parser.getText());
          case "ts" -> click.at = parser.getLongValue();
          case "value" -> click.value = parser.getDoubleValue();
          case "dwell_ms" -> click.dwell = parser.getLongValue();
          default -> parser.skipChildren();
        }
      }
    }
    if (click.type < 0) throw new IOException("an event of no known type: " + click.id);
    return click;
  }

  /** The decision for this event. Ids of the workload need no escaping. */
  public byte[] decide(float score, String model) {
    String segment = score >= 0.5f ? "hot" : "cold";
    String json = "{\"event_id\":\"" + id + "\",\"user_id\":\"" + user + "\",\"score\":" + score
        + ",\"segment\":\"" + segment + "\",\"model\":\"" + model + "\",\"ts\":" + at + "}";
    return json.getBytes(StandardCharsets.ISO_8859_1);
  }
}
