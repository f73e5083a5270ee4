//! Eight bytes at a time: the few word-parallel steps that the cursor and the decimals share.
//!
//! Bytes are loaded little-endian, so that the first byte of the text is the lowest. What is found is marked by bit 7
//! of its byte, so that counting trailing zeros tells where it stands ("Bit Twiddling Hacks", S. E. Anderson,
//! "Determine if a word has a byte less than n").

/// `byte` in all eight places.
const fn all(byte: u8) -> u64 {
    0x0101_0101_0101_0101 * byte as u64
}

/// The first eight bytes, if there are as many.
#[inline]
pub fn load(text: &[u8]) -> Option<u64> {
    text.first_chunk::<8>().map(|eight| u64::from_le_bytes(*eight))
}

/// Whether every byte is below 128, without leaving the loop early: frames are short and nearly all are ASCII.
#[inline]
pub fn is_ascii(text: &[u8]) -> bool {
    let (words, tail) = text.as_chunks::<8>();
    let bits = words.iter().fold(0, |bits, word| bits | u64::from_le_bytes(*word));
    tail.iter().fold(bits, |bits, byte| bits | u64::from(*byte)) & all(0x80) == 0
}

/// What stands at the first mark of `digits`, as [`digits`] gives it.
#[inline]
pub fn at(digits: u64, marks: u64) -> u64 {
    digits >> (8 * before(marks)) & 0xff
}

/// How many bytes stand before the first mark; 8 for none.
#[inline]
pub fn before(marks: u64) -> usize {
    (marks.trailing_zeros() / 8) as usize
}

/// How many bytes stand before the first `"`, `\` or control character; 8 for none.
#[inline]
pub fn plain_text(word: u64) -> usize {
    // Exchanging the bit that parts the quote from the space puts it below 0x21, next to the control characters. A byte
    // that is found borrows from its neighbour: only the first mark is sure, and only that one counts.
    let quotes_and_controls = (word ^ all(0x02)).wrapping_sub(all(0x21));
    let escapes = (word ^ all(b'\\')).wrapping_sub(all(1));
    before((quotes_and_controls | escapes) & !word & all(0x80))
}

/// How many bytes stand before the first `"`, `\\`, control character or byte that is not ASCII; 8 for none.
#[inline]
pub fn ascii_text(word: u64) -> usize {
    let quotes_and_controls = (word ^ all(0x02)).wrapping_sub(all(0x21));
    let escapes = (word ^ all(b'\\')).wrapping_sub(all(1));
    before((quotes_and_controls | escapes | word) & all(0x80))
}

/// The values of bytes that are digits; other bytes become 10 or more.
#[inline]
pub fn digits(word: u64) -> u64 {
    word ^ all(b'0')
}

/// Marks every byte of [`digits`] that is no digit. No byte carries into another.
#[inline]
pub fn others(digits: u64) -> u64 {
    ((digits & all(0x7f)).wrapping_add(all(0x80 - 10)) | digits) & all(0x80)
}

/// The number that eight digits make.
#[inline]
pub fn number(digits: u64) -> u64 {
    // Neighbours join to pairs, fours and eight: each factor is the weight of the left one, moved on to the right one.
    let pairs = (digits.wrapping_mul((10 << 8) + 1) >> 8) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs.wrapping_mul((100 << 16) + 1) >> 16) & 0x0000_ffff_0000_ffff;
    fours.wrapping_mul((10_000 << 32) + 1) >> 32
}

/// The number that the first `count` digits make, 0 to 7 of them; what stands behind them does not matter.
#[inline]
pub fn first(digits: u64, count: usize) -> u64 {
    // Moved to the end; the zero bytes before them count as digits 0. In two steps, as none is a shift by 64.
    number(digits << 8 << (56 - 8 * count))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn words_agree_with_bytes(bytes: [u8; 8], text in "[0-9.\"\\\\ -~]{8}", digit in "[0-9]{8}") {
            for bytes in [&bytes[..], text.as_bytes(), digit.as_bytes()] {
                let word = load(bytes).unwrap();
                let plain = bytes.iter().take_while(|byte| !matches!(byte, b'"' | b'\\' | 0..=0x1f)).count();
                prop_assert_eq!(plain_text(word), plain);
                let ascii = bytes.iter().take_while(|byte| byte.is_ascii()).count();
                prop_assert_eq!(ascii_text(word), plain.min(ascii));
                let values = digits(word);
                let marks = bytes.iter().rev().fold(0, |marks, byte| marks << 8 | u64::from(!byte.is_ascii_digit()) << 7);
                prop_assert_eq!(others(values), marks);
                let count = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
                prop_assert_eq!(before(marks), count);
                let expected = bytes[..count].iter().fold(0, |number, byte| 10 * number + u64::from(byte - b'0'));
                if count == 8 {
                    prop_assert_eq!(number(values), expected);
                } else {
                    prop_assert_eq!(first(values, count), expected);
                }
            }
        }
    }
}
