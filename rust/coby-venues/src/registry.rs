//! The venues that COBY speaks to: one line each.

use coby_core::venue::Venue;

/// Every venue, in alphabetical order.
pub static VENUES: &[&dyn Venue] = &[
    &crate::binance::Binance,
    &crate::binance_futures::BinanceFutures,
    &crate::bitfinex::Bitfinex,
    &crate::bitget::Bitget,
    &crate::bitmex::BitMex,
    &crate::bitstamp::Bitstamp,
    &crate::bybit::Bybit,
    &crate::coinbase::Coinbase,
    &crate::cryptocom::CryptoCom,
    &crate::deribit::Deribit,
    &crate::dydx::DyDx,
    &crate::external::External,
    &crate::gateio::GateIo,
    &crate::gemini::Gemini,
    &crate::htx::Htx,
    &crate::hyperliquid::Hyperliquid,
    &crate::kraken::Kraken,
    &crate::kucoin::KuCoin,
    &crate::mexc::Mexc,
    &crate::okx::Okx,
    &crate::upbit::Upbit,
];

/// The venue with this id.
pub fn find(id: &str) -> Option<&'static dyn Venue> {
    VENUES.iter().find(|venue| venue.spec().id == id).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_unique_and_sorted() {
        let ids: Vec<_> = VENUES.iter().map(|venue| venue.spec().id).collect();
        assert!(ids.is_sorted_by(|a, b| a < b), "{ids:?}");
        assert!(ids.iter().all(|id| find(id).is_some_and(|venue| venue.spec().id == *id)));
    }
}
