use super::{Market, int, rows, until};

/// `{"ch":"market.btcusdt.mbp.400","ts":1,"tick":{"seqNum":1,"prevSeqNum":1,"asks":[[1.5,2.0]],"bids":[…]}}`, perhaps
/// compressed.
pub fn apply(market: &mut Market, bytes: &[u8]) {
    if bytes[0] == b'{' {
        return text(market, bytes);
    }
    let mut inflater = std::mem::take(&mut market.inflater);
    text(market, inflater.inflate(bytes));
    market.inflater = inflater;
}

fn text(market: &mut Market, bytes: &[u8]) {
    let mut at = r#"{"ch":"market."#.len();
    let index = market.index(until(bytes, &mut at, b'.'));
    let (book, digits) = (&mut market.books[index], market.digits[index]);
    at += r#"mbp.400","ts":"#.len();
    let _time = int(bytes, &mut at, b',');
    at += r#""tick":{"seqNum":"#.len();
    let _last = int(bytes, &mut at, b',');
    at += r#""prevSeqNum":"#.len();
    let _previous = int(bytes, &mut at, b',');
    let before = ["[", ",", "]"];
    at += r#""asks":["#.len();
    rows(bytes, &mut at, before, digits, |price, size| book.asks.set(-price, size));
    at += r#","bids":["#.len();
    rows(bytes, &mut at, before, digits, |price, size| book.bids.set(price, size));
    book.bids.cut(400);
    book.asks.cut(400);
}
