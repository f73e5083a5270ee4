use super::{Market, decimal, time_of_day, until};

/// `{"type":"l2update","product_id":"BTC-USD","changes":[["buy","1.5","2"],…],"time":"2021-04-17T16:43:37.128966Z"}`
pub fn apply(market: &mut Market, bytes: &[u8]) {
    let mut at = r#"{"type":"l2update","product_id":""#.len();
    let index = market.index(until(bytes, &mut at, b'"'));
    let (book, digits) = (&mut market.books[index], market.digits[index]);
    at += r#","changes":"#.len();
    while bytes[at] == b'[' || bytes[at] == b',' {
        at += r#"[[""#.len();
        let buy = bytes[at] == b'b';
        at += if buy { r#"buy",""#.len() } else { r#"sell",""#.len() };
        let price = decimal(bytes, &mut at, digits.0);
        at += r#",""#.len();
        let size = decimal(bytes, &mut at, digits.1);
        at += 1;
        if buy {
            book.bids.set(price, size);
        } else {
            book.asks.set(-price, size);
        }
    }
    at += r#"],"time":""#.len();
    time_of_day(bytes, at);
}
