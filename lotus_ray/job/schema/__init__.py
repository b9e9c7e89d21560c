"""What a job file may say, and the defaults of what it does not."""
