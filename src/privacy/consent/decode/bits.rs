//! Reads bits from base64url text, as consent strings are written.
//!
//! Guarantees: no allocation, no panic. Reading past the end gives `None`, also within the bits that pad the last
//! character to a byte.

/// The value of each byte as a character of base64url; 64 and above for none.
const VALUES: [u8; 256] = {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut values = [0xff; 256];
    let mut value = 0;
    while value < alphabet.len() {
        values[alphabet[value] as usize] = value as u8;
        value += 1;
    }
    values
};

const CHAR_BITS: usize = 6;

/// A position in base64url text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bits<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Bits<'a> {
    /// The start of a text. `None` if it has characters that are not base64url.
    pub(super) fn new(text: &'a str) -> Option<Self> {
        let text = text.as_bytes();
        text.iter().all(|byte| VALUES[usize::from(*byte)] < 64).then_some(Self { text, at: 0 })
    }

    /// The number of bits that are left.
    pub(super) fn left(&self) -> usize {
        self.text.len() * CHAR_BITS - self.at
    }

    /// The next bits as a number, at most 58 of them.
    pub(super) fn read(&mut self, count: usize) -> Option<u64> {
        if count > self.left() {
            return None;
        }
        let end = self.at + count;
        let first = self.at / CHAR_BITS;
        let last = end.div_ceil(CHAR_BITS);
        let word = self.text[first..last].iter().fold(0, |word, byte| word << CHAR_BITS | value(*byte));
        self.at = end;
        Some(word >> (last * CHAR_BITS - end) & ((1 << count) - 1))
    }

    /// The next bit.
    pub(super) fn flag(&mut self) -> Option<bool> {
        self.read(1).map(|bit| bit == 1)
    }

    /// Two letters of six bits each.
    pub(super) fn letters(&mut self) -> Option<[u8; 2]> {
        let both = [self.read(6)? as u8, self.read(6)? as u8];
        both.iter().all(|letter| *letter < 26).then_some(both.map(|letter| letter + b'A'))
    }

    /// Skips a field of bits, numbered from 1, and returns one of them; false if it is outside.
    pub(super) fn field(&mut self, count: usize, number: usize) -> Option<bool> {
        if count > self.left() {
            return None;
        }
        let mut there = *self;
        self.at += count;
        if !(1..=count).contains(&number) {
            return Some(false);
        }
        there.at += number - 1;
        there.flag()
    }

    /// Whether nothing but padding is left: zeros.
    pub(super) fn is_padding(&self) -> bool {
        let mut rest = *self;
        let within = (CHAR_BITS - rest.at % CHAR_BITS) % CHAR_BITS;
        rest.read(within) == Some(0) && rest.text[rest.at / CHAR_BITS..].iter().all(|byte| *byte == b'A')
    }
}

fn value(byte: u8) -> u64 {
    u64::from(VALUES[usize::from(byte)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_read_in_order_and_never_past_the_end() {
        // 000000 000001 111111 100000
        let mut bits = Bits::new("AB_g").unwrap();
        assert_eq!((bits.read(11), bits.read(2), bits.left()), (Some(0), Some(3), 11));
        assert_eq!((bits.read(6), bits.is_padding()), (Some(0b11_1111), true));
        assert_eq!((bits.read(6), bits.read(5), bits.read(1), bits.read(0)), (None, Some(0), None, Some(0)));
        assert!(bits.is_padding());
        assert_eq!(Bits::new("").unwrap().read(1), None);
        assert!(!Bits::new("AAB").unwrap().is_padding());
        let mut wide = Bits::new("__________").unwrap();
        assert_eq!((wide.read(1), wide.read(58)), (Some(1), Some((1 << 58) - 1)));
    }

    #[test]
    fn a_field_gives_its_bit_and_moves_behind_it() {
        for number in 0..20 {
            let mut bits = Bits::new("ABg").unwrap();
            assert_eq!(bits.field(13, number), Some(number == 12 || number == 13), "{number}");
            assert_eq!(bits.left(), 5);
            assert_eq!(bits.field(6, 1), None);
        }
    }

    #[test]
    fn other_characters_and_letters_are_refused() {
        for text in ["A B", "A=", "A+", "A/", "Ä", "A.A", "A~"] {
            assert!(Bits::new(text).is_none(), "{text}");
        }
        assert_eq!(Bits::new("DE").unwrap().letters(), Some([b'D', b'E']));
        assert_eq!(Bits::new("Da").unwrap().letters(), None);
    }
}
