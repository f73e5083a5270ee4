use super::{Market, decimal, int, pairs, until};

/// `{"action":"update","arg":{"instType":"spot","topic":"books","symbol":"BTCUSDT"},"data":[{"a":[["p","q"]],"b":[…],`
/// `"ts":"1","seq":1,"pseq":1,"maxdepth":"1000"}],"ts":1}`
pub fn apply(market: &mut Market, bytes: &[u8]) {
    let mut at = r#"{"action":"update","arg":{"instType":"spot","topic":"books","symbol":""#.len();
    let index = market.index(until(bytes, &mut at, b'"'));
    let (book, digits) = (&mut market.books[index], market.digits[index]);
    let price = |bytes: &[u8], at: &mut usize| decimal(bytes, at, digits.0);
    let size = |bytes: &[u8], at: &mut usize| decimal(bytes, at, digits.1);
    at += r#"},"data":[{"a":["#.len();
    pairs(bytes, &mut at, price, size, |price, size| book.asks.set(-price, size));
    at += r#","b":["#.len();
    pairs(bytes, &mut at, price, size, |price, size| book.bids.set(price, size));
    at += r#","ts":""#.len();
    let _time = int(bytes, &mut at, b'"');
    at += r#","seq":"#.len();
    let _last = int(bytes, &mut at, b',');
    at += r#""pseq":"#.len();
    let _previous = int(bytes, &mut at, b',');
    at += r#""maxdepth":""#.len();
    let _depth = int(bytes, &mut at, b'"');
}
