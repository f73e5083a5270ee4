use super::{Market, VecSide, decimal, int, until};

/// `{"channel":"l2Book","data":{"coin":"BTC","time":1,"levels":[[{"px":"p","sz":"q","n":1}],[…]]}}`, the whole book.
pub fn apply(market: &mut Market, bytes: &[u8]) {
    let mut at = r#"{"channel":"l2Book","data":{"coin":""#.len();
    let index = market.index(until(bytes, &mut at, b'"'));
    let (book, digits) = (&mut market.books[index], market.digits[index]);
    at += r#","time":"#.len();
    let _time = int(bytes, &mut at, b',');
    at += r#""levels":["#.len();
    side(bytes, &mut at, digits, &mut book.bids, 1);
    at += 1;
    side(bytes, &mut at, digits, &mut book.asks, -1);
}

/// `[{"px":"p","sz":"q","n":1},…]`, best first.
fn side(bytes: &[u8], at: &mut usize, digits: (u8, u8), side: &mut VecSide, sign: i64) {
    side.clear();
    *at += 1;
    while bytes[*at] != b']' {
        *at += usize::from(bytes[*at] == b',') + r#"{"px":""#.len();
        let price = decimal(bytes, at, digits.0);
        *at += r#","sz":""#.len();
        let size = decimal(bytes, at, digits.1);
        *at += r#","n":"#.len();
        int(bytes, at, b'}');
        side.push(sign * price, size);
    }
    *at += 1;
    side.turn();
}
