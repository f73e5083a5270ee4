//! Venues: one file each.
