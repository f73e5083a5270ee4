use super::{Market, decimal, int, pairs, until};

/// `{"data":{"sequenceStart":1,"symbol":"BTC-USDT","changes":{"asks":[["p","q","n"]],"bids":[…]},"sequenceEnd":1},"subject":…}`
pub fn apply(market: &mut Market, bytes: &[u8]) {
    let mut at = r#"{"data":{"sequenceStart":"#.len();
    let _first = int(bytes, &mut at, b',');
    at += r#""symbol":""#.len();
    let index = market.index(until(bytes, &mut at, b'"'));
    let (book, digits) = (&mut market.books[index], market.digits[index]);
    let price = |bytes: &[u8], at: &mut usize| decimal(bytes, at, digits.0);
    let size = |bytes: &[u8], at: &mut usize| decimal(bytes, at, digits.1);
    at += r#","changes":{"asks":["#.len();
    // A row of price 0 only carries a sequence number.
    pairs(bytes, &mut at, price, size, |price, size| {
        if price != 0 {
            book.asks.set(-price, size);
        }
    });
    at += r#","bids":["#.len();
    pairs(bytes, &mut at, price, size, |price, size| {
        if price != 0 {
            book.bids.set(price, size);
        }
    });
    at += r#"},"sequenceEnd":"#.len();
    let _last = int(bytes, &mut at, b'}');
}
