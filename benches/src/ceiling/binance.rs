use super::{Market, fixed, int, pairs, until};

/// `{"stream":"btcusdt@depth@100ms","data":{"e":"depthUpdate","E":1,"s":"BTCUSDT","U":1,"u":1,"b":[…],"a":[…]}}`
pub fn apply(market: &mut Market, bytes: &[u8]) {
    let mut at = r#"{"stream":""#.len();
    until(bytes, &mut at, b'@');
    at += r#"depth@100ms","data":{"e":"depthUpdate","E":"#.len();
    let _time = int(bytes, &mut at, b',');
    at += r#""s":""#.len();
    let index = market.index(until(bytes, &mut at, b'"'));
    at += r#","U":"#.len();
    let _first = int(bytes, &mut at, b',');
    at += r#""u":"#.len();
    let _last = int(bytes, &mut at, b',');
    let book = &mut market.books[index];
    at += r#""b":["#.len();
    pairs(bytes, &mut at, fixed, fixed, |price, size| book.bids.set(price, size));
    at += r#","a":["#.len();
    pairs(bytes, &mut at, fixed, fixed, |price, size| book.asks.set(-price, size));
}
