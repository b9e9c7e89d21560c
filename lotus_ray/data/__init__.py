"""Images on disk and in memory: sources, shards, roles, decoding, the image dataset."""
