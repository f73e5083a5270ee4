//! Venues: one pure protocol state machine per file, and the list of them.
#![forbid(unsafe_code)]

pub mod common;
pub mod protobuf;
pub mod registry;

pub mod binance_futures;
pub mod bitget;
pub mod bitmex;
pub mod bitstamp;
pub mod coinbase;
pub mod deribit;
pub mod gateio;
pub mod kraken;
pub mod kucoin;
pub mod mexc;

#[cfg(test)]
mod testing;
