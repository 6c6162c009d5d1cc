"""Few-shot transfer of latency to a new device from the measurements of other devices."""
