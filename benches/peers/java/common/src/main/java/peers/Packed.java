package peers;

import java.util.Arrays;

/** Numbers encoded with seven bits per byte, lowest first. */
final class Packed {
  private byte[] bytes;
  private int at;

  Packed(byte[] bytes) {
    this.bytes = bytes;
  }

  void putVar(long number) {
    if (at + 10 > bytes.length) bytes = Arrays.copyOf(bytes, 2 * bytes.length + 10);
    for (; (number & -128L) != 0; number >>>= 7) bytes[at++] = (byte) (number | 128);
    bytes[at++] = (byte) number;
  }

  long getVar() {
    long number = 0;
    for (int shift = 0; ; shift += 7) {
      byte next = bytes[at++];
      number |= (next & 127L) << shift;
      if (next >= 0) return number;
    }
  }

  void rewind() {
    at = 0;
  }

  byte[] copy() {
    return Arrays.copyOf(bytes, at);
  }
}
