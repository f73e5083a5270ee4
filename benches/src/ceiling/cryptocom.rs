use super::{Market, decimal, int, pairs, until};

/// `{"id":-1,"method":"subscribe","code":0,"result":{"instrument_name":"BTCUSD-PERP","subscription":"book.BTCUSD-PERP.50",`
/// `"channel":"book.update","depth":50,"data":[{"update":{"asks":[["p","q","1"]],"bids":[…]},"t":1,"tt":1,"u":1,"pu":1,"cs":1}]}}`
pub fn apply(market: &mut Market, bytes: &[u8]) {
    let mut at = r#"{"id":-1,"method":"subscribe","code":0,"result":{"instrument_name":""#.len();
    let name = until(bytes, &mut at, b'"');
    let index = market.index(name);
    let (book, digits) = (&mut market.books[index], market.digits[index]);
    let price = |bytes: &[u8], at: &mut usize| decimal(bytes, at, digits.0);
    let size = |bytes: &[u8], at: &mut usize| decimal(bytes, at, digits.1);
    at += r#","subscription":"book."#.len() + name.len();
    at += r#".50","channel":"book.update","depth":50,"data":[{"update":{"asks":["#.len();
    pairs(bytes, &mut at, price, size, |price, size| book.asks.set(-price, size));
    at += r#","bids":["#.len();
    pairs(bytes, &mut at, price, size, |price, size| book.bids.set(price, size));
    at += r#"},"t":"#.len();
    let _sent = int(bytes, &mut at, b',');
    at += r#""tt":"#.len();
    let _time = int(bytes, &mut at, b',');
    at += r#""u":"#.len();
    let _last = int(bytes, &mut at, b',');
    at += r#""pu":"#.len();
    let _previous = int(bytes, &mut at, b',');
}
