"""Durable rows, in a folder or a bucket."""
