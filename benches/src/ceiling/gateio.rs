use super::{Market, decimal, int, pairs, until};

/// `{"channel":"spot.obu","result":{"t":1,"s":"ob.BTC_USDT.400","u":1,"U":1,"b":[["p","q"]],"a":[…]},"time_ms":1,`
/// `"event":"update"}`, a side that has no changes left out.
pub fn apply(market: &mut Market, bytes: &[u8]) {
    let mut at = r#"{"channel":"spot.obu","result":{"t":"#.len();
    let _time = int(bytes, &mut at, b',');
    at += r#""s":"ob."#.len();
    let index = market.index(until(bytes, &mut at, b'.'));
    let (book, digits) = (&mut market.books[index], market.digits[index]);
    let price = |bytes: &[u8], at: &mut usize| decimal(bytes, at, digits.0);
    let size = |bytes: &[u8], at: &mut usize| decimal(bytes, at, digits.1);
    at += r#"400","u":"#.len();
    let _last = int(bytes, &mut at, b',');
    at += r#""U":"#.len();
    while bytes[at].is_ascii_digit() {
        at += 1;
    }
    let side = r#","b":["#.len();
    if bytes[at..].starts_with(br#","b""#) {
        at += side;
        pairs(bytes, &mut at, price, size, |price, size| book.bids.set(price, size));
    }
    if bytes[at..].starts_with(br#","a""#) {
        at += side;
        pairs(bytes, &mut at, price, size, |price, size| book.asks.set(-price, size));
    }
}
