"""Published networks, implemented from their papers, as baselines for a search.

Each module has one function ``(width, num_classes) -> (backbone, head)``; ``spaces/references.py`` lists them. Three deviations
from the publications: no auxiliary heads, batch norms directly after their convolutions, so that they can be folded, and no
batch norm on maps of one pixel, which fails on a batch of one image.
"""
