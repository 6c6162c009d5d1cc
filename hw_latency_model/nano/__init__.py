"""The Jetson Nano's prior, fitted on public measurements."""
