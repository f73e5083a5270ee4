//! Settings of the pipeline: all that may influence a row besides frames. They stand in a run's `Start`.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::decimal::Decimal;
use crate::record::Nanos;
use crate::time::MILLI;

/// A setting that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{setting} is {value}: {allowed}")]
pub struct SettingsError {
    /// Its name.
    pub setting: String,
    /// Its value.
    pub value: String,
    /// What is allowed.
    pub allowed: &'static str,
}

/// Bucket sizes for one base asset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BucketSizes {
    /// Base asset.
    pub base: String,
    /// Sizes in quote units, as exact decimals.
    pub sizes: Vec<String>,
}

/// Settings of the pipeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PipelineSettings {
    /// Between two columns and snapshots, milliseconds; a multiple of 100.
    pub update_interval_ms: i64,
    /// Rows a side of heatmap columns and price buckets.
    pub heatmap_depth: u32,
    /// Levels a side of book snapshots.
    pub snapshot_levels: u32,
    /// Bucket sizes by base asset, for quotes in US dollars and their stablecoins; any other book gets a
    /// size by its price.
    pub bucket_sizes: Vec<BucketSizes>,
}

impl Default for PipelineSettings {
    fn default() -> Self {
        let one = |base: &str, size: &str| BucketSizes { base: base.into(), sizes: vec![size.into()] };
        Self {
            update_interval_ms: 500,
            heatmap_depth: 50,
            snapshot_levels: 50,
            bucket_sizes: vec![one("BTC", "10"), one("ETH", "1")],
        }
    }
}

impl PipelineSettings {
    /// Reads and checks settings.
    pub fn parse(json: &str) -> Result<Self, SettingsError> {
        let failed = |value: String| SettingsError {
            setting: "pipeline settings".into(),
            value,
            allowed: "a JSON object with update_interval_ms, heatmap_depth, snapshot_levels, bucket_sizes",
        };
        let settings: Self = serde_json::from_str(json).map_err(|error| failed(format!("{json} ({error})")))?;
        settings.check()?;
        Ok(settings)
    }

    /// The settings as JSON.
    pub fn to_json(&self) -> String {
        // Plain data: this cannot fail.
        serde_json::to_string(self).unwrap_or_default()
    }

    fn check(&self) -> Result<(), SettingsError> {
        let wrong =
            |setting: &str, value: String, allowed| Err(SettingsError { setting: setting.into(), value, allowed });
        let interval = self.update_interval_ms;
        if !(100..=3_600_000).contains(&interval) || interval % 100 != 0 {
            return wrong("update_interval_ms", interval.to_string(), "a multiple of 100 from 100 to 3600000");
        }
        if !(1..=10_000).contains(&self.heatmap_depth) {
            return wrong("heatmap_depth", self.heatmap_depth.to_string(), "1 to 10000 rows a side");
        }
        if !(1..=10_000).contains(&self.snapshot_levels) {
            return wrong("snapshot_levels", self.snapshot_levels.to_string(), "1 to 10000 levels a side");
        }
        for entry in &self.bucket_sizes {
            for size in &entry.sizes {
                if !Decimal::parse(size.as_bytes()).is_ok_and(|size| size.mantissa > 0) {
                    return wrong(&format!("bucket size of {}", entry.base), size.clone(), "a positive decimal number");
                }
            }
        }
        Ok(())
    }

    /// The update interval in nanoseconds.
    pub fn update_interval(&self) -> Nanos {
        self.update_interval_ms * MILLI
    }

    /// The configured bucket sizes of a pair, empty where its price decides.
    pub fn sizes_of(&self, base: &str, quote: &str) -> Vec<Decimal> {
        if !matches!(quote, "USD" | "USDT" | "USDC") {
            return Vec::new();
        }
        let entry = self.bucket_sizes.iter().find(|entry| entry.base == base);
        let sizes = entry.into_iter().flat_map(|entry| &entry.sizes);
        sizes.filter_map(|size| Decimal::parse(size.as_bytes()).ok()).map(Decimal::normal).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_round_trip_and_are_checked() {
        let settings = PipelineSettings::default();
        assert_eq!(PipelineSettings::parse(&settings.to_json()), Ok(settings.clone()));
        assert_eq!(PipelineSettings::parse("{}"), Ok(settings));
        for (json, setting) in [
            (r#"{"update_interval_ms":250}"#, "update_interval_ms"),
            (r#"{"heatmap_depth":0}"#, "heatmap_depth"),
            (r#"{"bucket_sizes":[{"base":"BTC","sizes":["0"]}]}"#, "bucket size of BTC"),
            (r#"{"nonsense":1}"#, "pipeline settings"),
        ] {
            assert_eq!(PipelineSettings::parse(json).unwrap_err().setting, setting);
        }
    }
}
