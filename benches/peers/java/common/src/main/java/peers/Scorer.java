package peers;

import ai.onnxruntime.OnnxTensor;
import ai.onnxruntime.OrtEnvironment;
import ai.onnxruntime.OrtException;
import ai.onnxruntime.OrtSession;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.util.Map;
import java.util.Set;

/**
 * One single-threaded session of ONNX Runtime, for up to `capacity` rows per run. Buffers are off-heap, and the full-size tensors
 * are created once and then overwritten, which is the least allocation that the Java API permits.
 */
public final class Scorer implements AutoCloseable {
  private final OrtEnvironment environment = OrtEnvironment.getEnvironment();
  private final OrtSession session;
  private final int capacity;
  private final FloatBuffer rows, scores;
  private final OnnxTensor input, output;

  public Scorer(String path, int capacity) throws OrtException {
    OrtSession.SessionOptions options = new OrtSession.SessionOptions();
    options.setIntraOpNumThreads(1);
    options.setInterOpNumThreads(1);
    session = environment.createSession(path, options);
    this.capacity = capacity;
    rows = floats(capacity * Profile.FEATURES);
    scores = floats(capacity);
    input = OnnxTensor.createTensor(environment, rows, new long[] {capacity, Profile.FEATURES});
    output = OnnxTensor.createTensor(environment, scores, new long[] {capacity, 1});
  }

  private static FloatBuffer floats(int count) {
    return ByteBuffer.allocateDirect(count * Float.BYTES).order(ByteOrder.nativeOrder()).asFloatBuffer();
  }

  public void put(int row, float[] features) {
    rows.put(row * Profile.FEATURES, features);
  }

  /** Scores the first `count` rows. */
  public void run(int count) throws OrtException {
    if (count == capacity) {
      session.run(Map.of("input", input), Set.of(), Map.of("score", output)).close();
      return;
    }
    FloatBuffer some = rows.slice(0, count * Profile.FEATURES);
    try (OnnxTensor part = OnnxTensor.createTensor(environment, some, new long[] {count, Profile.FEATURES});
        OrtSession.Result result = session.run(Map.of("input", part))) {
      scores.put(0, ((OnnxTensor) result.get(0)).getFloatBuffer(), 0, count);
    }
  }

  public float score(int row) {
    return scores.get(row);
  }

  @Override
  public void close() throws OrtException {
    input.close();
    output.close();
    session.close();
  }
}
