use super::{Market, int, rows, time_of_day, until};

/// The levels a side that the recordings subscribe; clients keep no more.
const DEPTH: usize = 100;

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
    let _checksum = int(bytes, &mut at, b',');
    at += r#""timestamp":""#.len();
    time_of_day(bytes, at);
    book.bids.cut(DEPTH);
    book.asks.cut(DEPTH);
}
