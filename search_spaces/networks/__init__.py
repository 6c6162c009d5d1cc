"""Building blocks of the networks: backbones, decoders, layers, pretrained weights."""
