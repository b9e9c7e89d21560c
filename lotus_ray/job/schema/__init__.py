"""The keys of a job file and their defaults."""
