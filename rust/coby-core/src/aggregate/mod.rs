//! What is derived from books and trades: price buckets, heatmap columns and candles.

pub mod bucket;
pub mod candle;
mod divider;
pub mod heatmap;
