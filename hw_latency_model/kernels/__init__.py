"""From a network to the kernels that a device launches: readers, fusion rules, shapes, tables."""
