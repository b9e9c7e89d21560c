"""Turn a job file into cells, and cells into work orders."""
