"""Stores: where rows go. The embedded one needs no server: Parquet files and an SQLite catalogue."""
