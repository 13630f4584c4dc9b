package peers;

import org.apache.flink.api.common.state.ValueState;
import org.apache.flink.api.common.state.ValueStateDescriptor;
import org.apache.flink.streaming.api.operators.AbstractStreamOperator;
import org.apache.flink.streaming.api.operators.OneInputStreamOperator;
import org.apache.flink.streaming.runtime.streamrecord.StreamRecord;

/**
 * Scores up to {@link #BATCH} events in one run. An operator rather than a process function, because only an operator learns of a
 * checkpoint before its barrier is forwarded. Events waiting for a score must be sent before that, or a crash would lose them.
 */
final class Decide extends AbstractStreamOperator<FlinkPeer.Decided> implements OneInputStreamOperator<Click, FlinkPeer.Decided> {
  private static final int BATCH = 256;
  /** How long an event waits for further ones. */
  private static final long DELAY_MS = 5;

  private final String path, model;
  private transient Scorer scorer;
  private transient ValueState<Profile> profiles;
  private transient float[] row;
  private transient Click[] waiting;
  private transient int count;
  private transient boolean timed;

  Decide(String path, String model) {
    this.path = path;
    this.model = model;
  }

  @Override
  public void open() throws Exception {
    super.open();
    scorer = new Scorer(path, BATCH);
    profiles = getRuntimeContext().getState(new ValueStateDescriptor<>("profiles", new ProfileSerializer()));
    row = new float[Profile.FEATURES];
    waiting = new Click[BATCH];
  }

  @Override
  public void processElement(StreamRecord<Click> element) throws Exception {
    Click click = element.getValue();
    Profile profile = profiles.value();
    if (profile == null) profile = new Profile();
    profile.take(click, row);
    profiles.update(profile);
    scorer.put(count, row);
    waiting[count++] = click;
    if (count == BATCH) {
      send();
    } else if (!timed) {
      timed = true;
      var clock = getProcessingTimeService();
      clock.registerTimer(clock.getCurrentProcessingTime() + DELAY_MS, at -> {
        timed = false;
        send();
      });
    }
  }

  private void send() throws Exception {
    if (count == 0) return;
    scorer.run(count);
    for (int i = 0; i < count; i++) {
      FlinkPeer.Decided decided = new FlinkPeer.Decided();
      decided.user = waiting[i].user;
      decided.json = waiting[i].decide(scorer.score(i), model);
      waiting[i] = null;
      output.collect(new StreamRecord<>(decided));
    }
    count = 0;
  }

  @Override
  public void prepareSnapshotPreBarrier(long checkpoint) throws Exception {
    send();
  }

  @Override
  public void finish() throws Exception {
    send();
    super.finish();
  }

  @Override
  public void close() throws Exception {
    if (scorer != null) scorer.close();
    super.close();
  }
}
