//! Eight bytes at a time: the few word-parallel steps that the cursor and the decimals share.
//!
//! Bytes are loaded little-endian, so that the first byte of the text is the lowest. Positions are found as
//! in "Bit Twiddling Hacks" (S. E. Anderson), "Determine if a word has a zero byte"; digits are summed
//! pairwise.

/// `byte` in all eight places.
const fn all(byte: u8) -> u64 {
    0x0101_0101_0101_0101 * byte as u64
}

/// The eight bytes from `at` on, if there are as many.
#[inline]
pub fn load(bytes: &[u8], at: usize) -> Option<u64> {
    let eight = bytes.get(at..)?.first_chunk::<8>()?;
    Some(u64::from_le_bytes(*eight))
}

/// Bit 7 of every byte that is zero; exact up to and including the first such byte.
#[inline]
fn zeros(word: u64) -> u64 {
    word.wrapping_sub(all(1)) & !word & all(0x80)
}

/// How many bytes stand before the first `"`, `\` or control character; 8 for none.
#[inline]
pub fn plain_text(word: u64) -> usize {
    let quotes = zeros(word ^ all(b'"'));
    let escapes = zeros(word ^ all(b'\\'));
    let controls = word.wrapping_sub(all(0x20)) & !word & all(0x80);
    (quotes | escapes | controls).trailing_zeros() as usize / 8
}

/// How many digits stand at the start; 8 for all.
#[inline]
pub fn leading_digits(word: u64) -> usize {
    // A digit has 3 in its high half and keeps it when 6 is added; no digit carries into its neighbour, and
    // what a byte that is none carries comes behind the first.
    let odd = (word ^ all(b'0')) | (word.wrapping_add(all(6)) ^ all(b'0'));
    ((odd & all(0xf0)).trailing_zeros() / 8) as usize
}

/// The value of the first `count` bytes, 1 to 8, all digits.
#[inline]
pub fn value(word: u64, count: usize) -> u64 {
    // Moved to the end; zero bytes before them count as digits 0.
    let digits = (word & all(0x0f)) << (64 - 8 * count);
    let pairs = digits.wrapping_mul(10).wrapping_add(digits >> 8) & 0x00ff_00ff_00ff_00ff;
    let fours = pairs.wrapping_mul(100).wrapping_add(pairs >> 16) & 0x0000_ffff_0000_ffff;
    (fours.wrapping_mul(10_000).wrapping_add(fours >> 32)) & 0xffff_ffff
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn words_agree_with_bytes(bytes: [u8; 8], text in "[0-9.\"\\\\ -~]{8}") {
            for bytes in [&bytes[..], text.as_bytes()] {
                let word = load(bytes, 0).unwrap();
                let digits = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
                prop_assert_eq!(leading_digits(word), digits);
                let plain = bytes.iter().take_while(|byte| !matches!(byte, b'"' | b'\\' | 0..=0x1f)).count();
                prop_assert_eq!(plain_text(word), plain);
                if digits > 0 {
                    let text = std::str::from_utf8(&bytes[..digits]).unwrap();
                    prop_assert_eq!(value(word, digits), text.parse::<u64>().unwrap());
                }
            }
        }
    }
}
