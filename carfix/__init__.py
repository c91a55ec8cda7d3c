"""carfix removes compression artifacts from video with CAR-CNN (Aqqa and Shah, VISAPP 2021)."""

__version__ = "0.1.0"
