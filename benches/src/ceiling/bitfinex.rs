use super::{Market, int, number, until};

/// What a subscription is called from then on:
/// `{"event":"subscribed","channel":"book","chanId":1,"symbol":"tBTCUSD",…}`
pub fn learn(market: &mut Market, bytes: &[u8]) {
    let start = br#"{"event":"subscribed","channel":"book","chanId":"#;
    if bytes.starts_with(start) {
        let mut at = start.len();
        let number = int(bytes, &mut at, b',');
        at += r#""symbol":""#.len();
        let index = market.index(until(bytes, &mut at, b'"'));
        market.channels.push((number, index));
    }
}

/// `[1,[price,count,±amount],1,1]`; frames of other channels are among them, as all share one numbering.
pub fn apply(market: &mut Market, bytes: &[u8]) {
    let mut at = 1;
    let number_of = int(bytes, &mut at, b',');
    let Some((_, index)) = market.channels.iter().find(|(known, _)| *known == number_of) else { return };
    if bytes[at] != b'[' {
        return;
    }
    let (book, digits) = (&mut market.books[*index], market.digits[*index]);
    at += 1;
    let price = number(bytes, &mut at, digits.0);
    at += 1;
    let count = int(bytes, &mut at, b',');
    let ask = bytes[at] == b'-';
    at += usize::from(ask);
    let size = number(bytes, &mut at, digits.1) * count.min(1);
    at += 2;
    let _sequence = int(bytes, &mut at, b',');
    let _time = int(bytes, &mut at, b']');
    if ask {
        book.asks.set(-price, size);
    } else {
        book.bids.set(price, size);
    }
}
