"""INT8 and FP16: the exported graph in torch, rounded as the device does, and its Q/DQ file."""
