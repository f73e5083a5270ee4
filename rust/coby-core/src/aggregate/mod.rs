
pub mod bucket;
mod divider;
pub mod heatmap;
