"""Batches of pixels, in an order that a seed gives."""
