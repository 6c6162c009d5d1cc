"""Fitting of the Jetson Nano's prior on public measurements."""
