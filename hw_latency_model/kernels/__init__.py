"""Kernels that a device launches for a network: readers, fusion rules, shapes, tables."""
