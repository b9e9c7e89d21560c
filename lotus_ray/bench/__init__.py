"""The benchmarks of `lotus-ray bench`: this package beside plain PyTorch, in one run."""
