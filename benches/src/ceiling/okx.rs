use super::{Market, fixed, int, pairs, until};

/// `{"arg":{"channel":"books","instId":"BTC-USDT"},"action":"update","data":[{"asks":[["p","q","0","1"]],"bids":[…],`
/// `"ts":"1","checksum":0,"seqId":1,"prevSeqId":1}]}`
pub fn apply(market: &mut Market, bytes: &[u8]) {
    let mut at = r#"{"arg":{"channel":"books","instId":""#.len();
    let index = market.index(until(bytes, &mut at, b'"'));
    let book = &mut market.books[index];
    at += r#"},"action":"update","data":[{"asks":["#.len();
    pairs(bytes, &mut at, fixed, fixed, |price, size| book.asks.set(-price, size));
    at += r#","bids":["#.len();
    pairs(bytes, &mut at, fixed, fixed, |price, size| book.bids.set(price, size));
    at += r#","ts":""#.len();
    let _time = int(bytes, &mut at, b'"');
    at += r#","checksum":"#.len();
    let _checksum = int(bytes, &mut at, b',');
    at += r#""seqId":"#.len();
    let _last = int(bytes, &mut at, b',');
    at += r#""prevSeqId":"#.len();
    let _previous = int(bytes, &mut at, b'}');
}
