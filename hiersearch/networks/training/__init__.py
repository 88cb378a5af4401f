"""Training of the small U-Net on one's own images. The loop itself imports torch."""
