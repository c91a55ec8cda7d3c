"""Restoring: windows, engines, the pipeline of one file and the batch of many."""
