"""One cell on one group of workers."""
