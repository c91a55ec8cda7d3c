"""Measuring: PSNR, SSIM, VMAF, FFmpeg's spp as a rival, tables and reports."""
