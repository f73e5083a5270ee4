use super::{Market, decimal, int, pairs, until};

/// `{"type":"channel_data","connection_id":"…","message_id":1,"id":"BTC-USD","channel":"v4_orderbook","version":"1.0.0",`
/// `"contents":{"bids":[["p","q"]]}}`, of one side or of both; frames of other channels are among them, as all share one
/// numbering. What a message crosses is older than it and goes.
pub fn apply(market: &mut Market, bytes: &[u8]) {
    if !bytes.starts_with(br#"{"type":"channel_data""#) {
        return;
    }
    let mut at = r#"{"type":"channel_data","connection_id":"9e3779b9-7f4a-4c15-b39c-c0605cedc835","message_id":"#.len();
    let _number = int(bytes, &mut at, b',');
    at += r#""id":""#.len();
    let name = until(bytes, &mut at, b'"');
    at += r#","channel":""#.len();
    if until(bytes, &mut at, b'"') != b"v4_orderbook" {
        return;
    }
    let index = market.index(name);
    let (book, digits) = (&mut market.books[index], market.digits[index]);
    let price = |bytes: &[u8], at: &mut usize| decimal(bytes, at, digits.0);
    let size = |bytes: &[u8], at: &mut usize| decimal(bytes, at, digits.1);
    at += r#","version":"1.0.0","contents":{"#.len();
    while bytes[at] == b'"' || bytes[at] == b',' {
        at += usize::from(bytes[at] == b',') + 1;
        let bids = bytes[at] == b'b';
        at += r#"bids":["#.len();
        let (side, older, sign) =
            if bids { (&mut book.bids, &mut book.asks, 1) } else { (&mut book.asks, &mut book.bids, -1) };
        pairs(bytes, &mut at, price, size, |price, size| side.set(sign * price, size));
        while let (Some(best), Some(other)) = (side.prices.last(), older.prices.last())
            && best + other >= 0
        {
            older.prices.pop();
            older.sizes.pop();
        }
    }
}
