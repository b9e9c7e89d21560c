"""From bytes of images to pixels, decoded once a node."""
