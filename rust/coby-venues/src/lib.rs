//! Venues: one pure protocol state machine per file, and the list of them.
#![forbid(unsafe_code)]

pub mod common;
mod gzip;
pub mod protobuf;
pub mod registry;

pub mod binance;
pub mod binance_futures;
pub mod bitfinex;
pub mod bitget;
pub mod bitmex;
pub mod bitstamp;
pub mod bybit;
pub mod coinbase;
pub mod cryptocom;
pub mod deribit;
pub mod dydx;
pub mod external;
pub mod gateio;
pub mod gemini;
pub mod htx;
pub mod hyperliquid;
pub mod kraken;
pub mod kucoin;
pub mod mexc;
pub mod okx;
pub mod upbit;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod usual_tests;
