"""What `lotus-ray bench` measures: ratios of ours to plain PyTorch, side by side in one run."""
