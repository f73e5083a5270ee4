use super::{Market, int, number, until};

/// `{"type":"orderbook","code":"KRW-BTC","timestamp":1,"total_ask_size":1.5,"total_bid_size":1.5,"orderbook_units":`
/// `[{"ask_price":1.5,"bid_price":1.5,"ask_size":1.5,"bid_size":1.5}],"stream_type":"REALTIME","level":0}`, the whole book.
pub fn apply(market: &mut Market, bytes: &[u8]) {
    let mut at = r#"{"type":"orderbook","code":""#.len();
    let index = market.index(until(bytes, &mut at, b'"'));
    let (book, digits) = (&mut market.books[index], market.digits[index]);
    at += r#","timestamp":"#.len();
    let _time = int(bytes, &mut at, b',');
    at += r#""total_ask_size":"#.len();
    until(bytes, &mut at, b',');
    at += r#""total_bid_size":"#.len();
    until(bytes, &mut at, b',');
    at += r#""orderbook_units":["#.len();
    book.bids.clear();
    book.asks.clear();
    while bytes[at] != b']' {
        at += usize::from(bytes[at] == b',') + r#"{"ask_price":"#.len();
        let ask = number(bytes, &mut at, digits.0);
        at += r#","bid_price":"#.len();
        let bid = number(bytes, &mut at, digits.0);
        at += r#","ask_size":"#.len();
        book.asks.push(-ask, number(bytes, &mut at, digits.1));
        at += r#","bid_size":"#.len();
        book.bids.push(bid, number(bytes, &mut at, digits.1));
        at += 1;
    }
    book.bids.turn();
    book.asks.turn();
}
