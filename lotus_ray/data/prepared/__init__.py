"""Prepared data sets: Parquet shards, their manifest, and checks of both."""
