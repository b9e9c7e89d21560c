"""The store's rows -> tables. Imports neither torch nor Ray."""
