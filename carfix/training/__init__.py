"""Training: datasets of encoded variants, aligned patches and the training loop."""
