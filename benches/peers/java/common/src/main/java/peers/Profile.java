package peers;

/** The state of one user, and the features computed from it. */
public final class Profile {
  public static final int FEATURES = 16;
  private static final ThreadLocal<Packed> BUFFER = ThreadLocal.withInitial(() -> new Packed(new byte[4096]));

  private final Tiles short5m = new Tiles(10_000, 30), mid1h = new Tiles(60_000, 60), long24h = new Tiles(1_800_000, 48);
  /** The newest time so far; 0 for none, because the workload is from 2026. */
  private long newest;

  /** Applies an event, and writes the features at that event to `row`. */
  public void take(Click click, float[] row) {
    short5m.add(click.at, click.type, 0);
    mid1h.add(click.at, click.type, click.type == Click.VIEW ? click.dwell : 0);
    long24h.add(click.at, click.type, click.type == Click.PURCHASE ? click.value : 0);
    short5m.read(click.at, row, 0);
    double dwell = mid1h.read(click.at, row, 1);
    double spent = long24h.read(click.at, row, 2);
    row[12] = (float) spent;
    row[13] = row[1] == 0 ? 0 : (float) (dwell / row[1]);
    row[14] = newest == 0 ? 0 : (float) Math.log1p(Math.max(0, click.at - newest));
    row[15] = click.at / 3_600_000 % 24;
    newest = Math.max(newest, click.at);
  }

  public Profile copy() {
    Profile copy = new Profile();
    copy.newest = newest;
    copy.short5m.set(short5m);
    copy.mid1h.set(mid1h);
    copy.long24h.set(long24h);
    return copy;
  }

  public byte[] toBytes() {
    Packed to = BUFFER.get();
    to.rewind();
    to.putVar(newest);
    short5m.write(to);
    mid1h.write(to);
    long24h.write(to);
    return to.copy();
  }

  public static Profile ofBytes(byte[] bytes) {
    Packed from = new Packed(bytes);
    Profile profile = new Profile();
    profile.newest = from.getVar();
    profile.short5m.read(from);
    profile.mid1h.read(from);
    profile.long24h.read(from);
    return profile;
  }
}
