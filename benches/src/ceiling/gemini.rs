use super::{Market, fixed, int, pairs, until};

/// `{"e":"depthUpdate","E":1,"s":"btcusd","U":1,"u":1,"b":[["p","q"]],"a":[…]}`
pub fn apply(market: &mut Market, bytes: &[u8]) {
    let mut at = r#"{"e":"depthUpdate","E":"#.len();
    let _time = int(bytes, &mut at, b',');
    at += r#""s":""#.len();
    let name = until(bytes, &mut at, b'"');
    // The list of instruments has capitals.
    let index = market.names.iter().position(|known| known.eq_ignore_ascii_case(name)).expect("a recorded instrument");
    let book = &mut market.books[index];
    at += r#","U":"#.len();
    let _first = int(bytes, &mut at, b',');
    at += r#""u":"#.len();
    let _last = int(bytes, &mut at, b',');
    at += r#""b":["#.len();
    pairs(bytes, &mut at, fixed, fixed, |price, size| book.bids.set(price, size));
    at += r#","a":["#.len();
    pairs(bytes, &mut at, fixed, fixed, |price, size| book.asks.set(-price, size));
}
