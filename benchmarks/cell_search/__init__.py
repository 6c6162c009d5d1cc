"""Search on NAS-Bench-201's table of cells: the table, the samplers side by side, and simulated workers."""
