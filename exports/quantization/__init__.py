"""INT8 and FP16: simulation of the exported graph in torch, and Q/DQ export."""
