"""Run all cells of a job."""
