"""Object detection before and after restoring: a YOLO detector, and how well its findings agree."""
