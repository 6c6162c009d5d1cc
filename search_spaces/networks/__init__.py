"""Networks: encoders, decoders, layers, published networks."""
