"""PyAV: containers, streams, frames, timestamps and colour. Knows nothing of networks."""
