"""What `lotus-ray bench` measures: this package beside plain PyTorch, in one run."""
