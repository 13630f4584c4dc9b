//! Bytes as lower-case hexadecimal text.

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// The two digits of a byte.
pub fn digits(byte: u8) -> [u8; 2] {
    [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]
}

/// Bytes as text.
pub fn encode(bytes: &[u8]) -> String {
    bytes.iter().flat_map(|byte| digits(*byte)).map(char::from).collect()
}

/// Decodes `N` bytes; `None` for any other text.
pub fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |letter: u8| DIGITS.iter().position(|digit| *digit == letter).map(|value| value as u8);
    let mut bytes = [0; N];
    let pairs = text.as_bytes().chunks_exact(2);
    if text.len() != 2 * N {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(pairs) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_and_anything_else_is_refused() {
        assert_eq!(encode(&[0x4b, 0xf9, 0x00]), "4bf900");
        assert_eq!(decode("4bf900"), Some([0x4b, 0xf9, 0x00]));
        for wrong in ["", "4bf9", "4bf90000", "4BF900", "+bf900", "4bf9\u{e9}"] {
            assert_eq!(decode::<3>(wrong), None, "{wrong}");
        }
    }
}
