"""A new device from few measurements, with the help of other devices' measurements."""
