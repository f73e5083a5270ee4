//! Venues: one pure protocol state machine per file, and the list of them.
#![forbid(unsafe_code)]

pub mod common;
pub mod registry;

pub mod binance_futures;
pub mod bitfinex;
pub mod bitstamp;
pub mod coinbase;
pub mod cryptocom;
pub mod dydx;
pub mod gemini;
pub mod htx;
pub mod hyperliquid;
pub mod kraken;
pub mod kucoin;
pub mod okx;
pub mod upbit;

#[cfg(test)]
mod testing;
