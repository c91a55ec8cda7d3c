"""torch: architectures, checkpoints, losses and SSIM. Knows nothing of video files."""
