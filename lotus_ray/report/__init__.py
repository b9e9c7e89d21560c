"""The store's rows -> tables, figures and exports. Imports neither torch nor Ray."""
