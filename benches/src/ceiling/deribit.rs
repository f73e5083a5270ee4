use coby_core::decimal::POW10;

use super::{Market, int, until};

/// `{"jsonrpc":"2.0","method":"subscription","params":{"channel":"book.BTC-PERPETUAL.100ms","data":{"timestamp":1,`
/// `"type":"change","change_id":1,"prev_change_id":1,"instrument_name":"BTC-PERPETUAL","bids":[["new",1.5,2.0]],"asks":[…]}}}`
pub fn apply(market: &mut Market, bytes: &[u8]) {
    let mut at = r#"{"jsonrpc":"2.0","method":"subscription","params":{"channel":"book."#.len();
    let name = until(bytes, &mut at, b'.');
    let index = market.index(name);
    let (book, digits) = (&mut market.books[index], market.digits[index]);
    at += r#"100ms","data":{"timestamp":"#.len();
    let _time = int(bytes, &mut at, b',');
    at += r#""type":"change","change_id":"#.len();
    let _last = int(bytes, &mut at, b',');
    at += r#""prev_change_id":"#.len();
    let _previous = int(bytes, &mut at, b',');
    at += r#""instrument_name":"","bids":["#.len() + name.len();
    rows(bytes, &mut at, digits, |price, size| book.bids.set(price, size));
    at += r#","asks":["#.len();
    rows(bytes, &mut at, digits, |price, size| book.asks.set(-price, size));
}

/// `["new",1.5,2.0],…]`, actions `new`, `change` and `delete`.
fn rows(bytes: &[u8], at: &mut usize, digits: (u8, u8), mut set: impl FnMut(i64, i64)) {
    while bytes[*at] != b']' {
        *at += usize::from(bytes[*at] == b',') + r#"[""#.len();
        let gone = bytes[*at] == b'd';
        *at += if bytes[*at] == b'n' { r#"new","#.len() } else { r#"change","#.len() };
        let price = float(bytes, at, digits.0, b',');
        let size = float(bytes, at, digits.1, b']');
        set(price, if gone { 0 } else { size });
    }
    *at += 1;
}

/// A number such as `1.5` or `1.5e3` up to `end`, at `scale`.
#[inline]
fn float(bytes: &[u8], at: &mut usize, scale: u8, end: u8) -> i64 {
    let mut value = int(bytes, at, b'.');
    let mut left = i64::from(scale);
    while bytes[*at].is_ascii_digit() {
        value = value * 10 + i64::from(bytes[*at] - b'0');
        left -= 1;
        *at += 1;
    }
    let scientific = bytes[*at] == b'e';
    *at += 1;
    if scientific {
        left += int(bytes, at, end);
    }
    // Where there are digits beyond the scale, they are zeros.
    if left < 0 { value / POW10[-left as usize] } else { value * POW10[left as usize] }
}
