"""Images on disk: Parquet shards, their manifest, and checks of both."""
