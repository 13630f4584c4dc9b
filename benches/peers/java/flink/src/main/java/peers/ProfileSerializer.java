package peers;

import java.io.IOException;
import org.apache.flink.api.common.typeutils.SimpleTypeSerializerSnapshot;
import org.apache.flink.api.common.typeutils.TypeSerializerSnapshot;
import org.apache.flink.api.common.typeutils.base.TypeSerializerSingleton;
import org.apache.flink.core.memory.DataInputView;
import org.apache.flink.core.memory.DataOutputView;

/** The packed form of a profile, prefixed by its length. Without it, Flink would fall back to Kryo. */
public final class ProfileSerializer extends TypeSerializerSingleton<Profile> {
  @Override
  public boolean isImmutableType() {
    return false;
  }

  @Override
  public Profile createInstance() {
    return new Profile();
  }

  @Override
  public int getLength() {
    return -1;
  }

  @Override
  public Profile copy(Profile from) {
    return from.copy();
  }

  @Override
  public Profile copy(Profile from, Profile reuse) {
    return copy(from);
  }

  @Override
  public void serialize(Profile profile, DataOutputView to) throws IOException {
    byte[] bytes = profile.toBytes();
    to.writeInt(bytes.length);
    to.write(bytes);
  }

  @Override
  public Profile deserialize(DataInputView from) throws IOException {
    byte[] bytes = new byte[from.readInt()];
    from.readFully(bytes);
    return Profile.ofBytes(bytes);
  }

  @Override
  public Profile deserialize(Profile reuse, DataInputView from) throws IOException {
    return deserialize(from);
  }

  @Override
  public void copy(DataInputView from, DataOutputView to) throws IOException {
    serialize(deserialize(from), to);
  }

  @Override
  public TypeSerializerSnapshot<Profile> snapshotConfiguration() {
    return new Snapshot();
  }

  /** Instantiated by Flink by name. */
  public static final class Snapshot extends SimpleTypeSerializerSnapshot<Profile> {
    public Snapshot() {
      super(ProfileSerializer::new);
    }
  }
}
