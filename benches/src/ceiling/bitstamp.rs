use super::{Market, fixed, int, pairs};

/// `{"data":{"timestamp":"1","microtimestamp":"1","bids":[…],"asks":[…]},"channel":"diff_order_book_btcusd","event":"data"}`
pub fn apply(market: &mut Market, bytes: &[u8]) {
    // What the data are stands behind them, at a fixed distance from the end.
    let end = bytes.len() - r#"","event":"data"}"#.len();
    let start = bytes[..end].iter().rposition(|byte| *byte == b'_').map_or(0, |at| at + 1);
    let index = market.index(&bytes[start..end]);
    let book = &mut market.books[index];
    let mut at = r#"{"data":{"timestamp":""#.len();
    let _second = int(bytes, &mut at, b'"');
    at += r#","microtimestamp":""#.len();
    let _time = int(bytes, &mut at, b'"');
    at += r#","bids":["#.len();
    pairs(bytes, &mut at, fixed, fixed, |price, size| book.bids.set(price, size));
    at += r#","asks":["#.len();
    pairs(bytes, &mut at, fixed, fixed, |price, size| book.asks.set(-price, size));
}
