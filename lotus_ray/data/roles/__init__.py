"""The role of each sample."""
