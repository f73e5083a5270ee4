use super::{Market, VecBook, int, rows, time_of_day, until};

/// The levels a side that the recordings subscribe; clients keep no more.
const DEPTH: usize = 100;
/// The levels a side that a checksum covers.
const CHECKED: usize = 10;

/// `{"channel":"book","type":"update","data":[{"symbol":"BTC/USD","bids":[{"price":1.5,"qty":2.0}],"asks":[…],`
/// `"checksum":1,"timestamp":"…"}]}`
pub fn apply(market: &mut Market, bytes: &[u8]) {
    let mut at = r#"{"channel":"book","type":"update","data":[{"symbol":""#.len();
    let index = market.index(until(bytes, &mut at, b'"'));
    let (book, digits) = (&mut market.books[index], market.digits[index]);
    let before = [r#"{"price":"#, r#","qty":"#, "}"];
    at += r#","bids":["#.len();
    rows(bytes, &mut at, before, digits, |price, size| book.bids.set(price, size));
    at += r#","asks":["#.len();
    rows(bytes, &mut at, before, digits, |price, size| book.asks.set(-price, size));
    at += r#","checksum":"#.len();
    let checksum = int(bytes, &mut at, b',');
    at += r#""timestamp":""#.len();
    time_of_day(bytes, at);
    book.bids.cut(DEPTH);
    book.asks.cut(DEPTH);
    assert_eq!(i64::from(digest(book)), checksum, "the books differ");
}

/// The CRC that each frame carries, which any reader of this format has to compare: it is all the proof there is.
fn digest(book: &VecBook) -> u32 {
    let mut text = [0; 2 * CHECKED * 2 * 20];
    let mut end = 0;
    for side in [&book.asks, &book.bids] {
        let levels = side.prices.iter().zip(&side.sizes).rev().take(CHECKED);
        for (price, size) in levels {
            for number in [price.unsigned_abs(), size.unsigned_abs()] {
                let length = number.ilog10() as usize + 1;
                let mut rest = number;
                for digit in text[end..end + length].iter_mut().rev() {
                    *digit = b'0' + (rest % 10) as u8;
                    rest /= 10;
                }
                end += length;
            }
        }
    }
    crc32fast::hash(&text[..end])
}
