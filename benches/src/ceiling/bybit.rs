use super::{Market, fixed, int, pairs, until};

/// `{"topic":"orderbook.1000.BTCUSDT","ts":1,"type":"delta","data":{"s":"BTCUSDT","b":[…],"a":[…],"u":1,"seq":1},"cts":1}`
pub fn apply(market: &mut Market, bytes: &[u8]) {
    let mut at = r#"{"topic":"orderbook.1000."#.len();
    let index = market.index(until(bytes, &mut at, b'"'));
    at += r#","ts":"#.len();
    let _pushed = int(bytes, &mut at, b',');
    at += r#""type":"delta","data":{"s":""#.len();
    until(bytes, &mut at, b'"');
    let book = &mut market.books[index];
    at += r#","b":["#.len();
    pairs(bytes, &mut at, fixed, fixed, |price, size| book.bids.set(price, size));
    at += r#","a":["#.len();
    pairs(bytes, &mut at, fixed, fixed, |price, size| book.asks.set(-price, size));
    at += r#","u":"#.len();
    let _last = int(bytes, &mut at, b',');
    at += r#""seq":"#.len();
    let _sequence = int(bytes, &mut at, b'}');
    at += r#","cts":"#.len();
    let _time = int(bytes, &mut at, b'}');
}
