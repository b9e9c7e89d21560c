"""A job file to cells, and cells to work orders."""
