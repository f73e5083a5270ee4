use super::{Market, number};

/// A length or number below 2^63.
fn varint(bytes: &[u8], at: &mut usize) -> usize {
    let (mut value, mut shift) = (0, 0);
    loop {
        let byte = bytes[*at];
        *at += 1;
        value |= usize::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return value;
        }
        shift += 7;
    }
}

/// A field of bytes, its tag passed over.
fn field<'b>(bytes: &'b [u8], at: &mut usize) -> &'b [u8] {
    *at += 1;
    let length = varint(bytes, at);
    *at += length;
    &bytes[*at - length..*at]
}

/// `PushDataV3ApiWrapper` in the order of its fields: 1 channel, 3 symbol, 6 time, 313 body, in which are 1 asks,
/// 2 bids, 3 type, 4 and 5 versions; in a level 1 is the price and 2 the quantity.
pub fn apply(market: &mut Market, bytes: &[u8]) {
    let mut at = 0;
    field(bytes, &mut at);
    let index = market.index(field(bytes, &mut at));
    let (book, digits) = (&mut market.books[index], market.digits[index]);
    at += 1;
    varint(bytes, &mut at);
    at += 2;
    varint(bytes, &mut at);
    while bytes[at] == 0x0a || bytes[at] == 0x12 {
        let ask = bytes[at] == 0x0a;
        at += 1;
        varint(bytes, &mut at);
        at += 2;
        let price = number(bytes, &mut at, digits.0);
        at += 2;
        let size = number(bytes, &mut at, digits.1);
        if ask {
            book.asks.set(-price, size);
        } else {
            book.bids.set(price, size);
        }
    }
    field(bytes, &mut at);
    for _version in ["first", "last"] {
        let text = field(bytes, &mut at);
        std::hint::black_box(text.iter().fold(0, |value, digit| 10 * value + i64::from(digit - b'0')));
    }
}
