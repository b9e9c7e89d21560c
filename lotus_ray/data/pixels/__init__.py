"""From encoded images to pixels, decoded once per node."""
