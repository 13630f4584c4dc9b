package peers;

import java.util.Arrays;

/**
 * The tiles of one window length for one user: only those with an event, in ascending order. A tile holds a count for each
 * event type, and one sum.
 */
final class Tiles {
  private static final int TYPES = 4;

  private final long width;
  private final int span;
  /** How many tiles back an event can reach: the window, a minute of lateness in whole tiles, and one more. */
  private final int reach;
  int size;
  long[] numbers = new long[1];
  int[] counts = new int[TYPES];
  double[] sums = new double[1];

  Tiles(long width, int span) {
    this.width = width;
    this.span = span;
    this.reach = span + (int) ((60_000 + width - 1) / width) + 1;
  }

  void add(long at, int type, double amount) {
    long number = at / width;
    int place = size;
    while (place > 0 && numbers[place - 1] > number) place--;
    if (place == 0 || numbers[place - 1] != number) insert(place++, number);
    // After old tiles are dropped, the newest is the last one; only a new newest tile drops any.
    place = Math.min(place, size);
    counts[(place - 1) * TYPES + type]++;
    sums[place - 1] += amount;
  }

  private void insert(int place, long number) {
    if (place == size) place = drop(number);
    if (size == numbers.length) {
      int room = Math.min(Math.max(4, 2 * size), Math.max(reach + 2, size + 1));
      numbers = Arrays.copyOf(numbers, room);
      counts = Arrays.copyOf(counts, room * TYPES);
      sums = Arrays.copyOf(sums, room);
    }
    int after = size - place;
    System.arraycopy(numbers, place, numbers, place + 1, after);
    System.arraycopy(counts, place * TYPES, counts, (place + 1) * TYPES, after * TYPES);
    System.arraycopy(sums, place, sums, place + 1, after);
    numbers[place] = number;
    Arrays.fill(counts, place * TYPES, (place + 1) * TYPES, 0);
    sums[place] = 0;
    size++;
  }

  /** Drops tiles that no window from this tile on can reach, and returns the position at the end. */
  private int drop(long newest) {
    int gone = 0;
    while (gone < size && numbers[gone] < newest - reach) gone++;
    if (gone > 0) {
      size -= gone;
      System.arraycopy(numbers, gone, numbers, 0, size);
      System.arraycopy(counts, gone * TYPES, counts, 0, size * TYPES);
      System.arraycopy(sums, gone, sums, 0, size);
    }
    return size;
  }

  /** Writes the counts of the window ending at this time to every third position from `first`, and returns the sum. */
  double read(long at, float[] row, int first) {
    long newest = at / width;
    int a = 0, b = 0, c = 0, d = 0;
    double sum = 0;
    for (int i = size; i-- > 0 && numbers[i] > newest - span; ) {
      if (numbers[i] > newest) continue;
      a += counts[i * TYPES];
      b += counts[i * TYPES + 1];
      c += counts[i * TYPES + 2];
      d += counts[i * TYPES + 3];
      sum += sums[i];
    }
    row[first] = a;
    row[first + 3] = b;
    row[first + 6] = c;
    row[first + 9] = d;
    return sum;
  }

  void set(Tiles from) {
    size = from.size;
    numbers = from.numbers.clone();
    counts = from.counts.clone();
    sums = from.sums.clone();
  }

  void write(Packed to) {
    to.putVar(size);
    long last = 0;
    for (int i = 0; i < size; i++) {
      to.putVar(numbers[i] - last);
      last = numbers[i];
      for (int type = 0; type < TYPES; type++) to.putVar(counts[i * TYPES + type]);
      // All sums of the workload are multiples of a quarter: exact, and shorter than eight bytes.
      to.putVar((long) (sums[i] * 4));
    }
  }

  void read(Packed from) {
    size = (int) from.getVar();
    numbers = new long[Math.max(1, size)];
    counts = new int[numbers.length * TYPES];
    sums = new double[numbers.length];
    long last = 0;
    for (int i = 0; i < size; i++) {
      numbers[i] = last += from.getVar();
      for (int type = 0; type < TYPES; type++) counts[i * TYPES + type] = (int) from.getVar();
      sums[i] = from.getVar() / 4.0;
    }
  }
}
