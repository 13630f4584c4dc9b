package peers;

/** The settings that the harness passes as environment variables. */
public final class Setting {
  private Setting() {}

  public static String of(String name) {
    String value = System.getenv(name);
    if (value == null || value.isEmpty()) throw new IllegalArgumentException("set " + name + " in the environment");
    return value;
  }

  public static String or(String name, String fallback) {
    String value = System.getenv(name);
    return value == null || value.isEmpty() ? fallback : value;
  }

  /** Whether each decision must appear exactly once. */
  public static boolean exactlyOnce() {
    return or("DELIVERY", "exactly_once").equals("exactly_once");
  }
}
