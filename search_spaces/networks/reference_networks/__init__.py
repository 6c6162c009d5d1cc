"""Hand-made networks of the literature, built from its papers: fixed points to compare a search with.

Each module has one function ``(width, num_classes) -> (backbone, head)``; ``references.py`` lists them. Three things differ
from the publications throughout: there are no auxiliary heads, batch norms follow their convolutions, so that they fold into
them, and maps of one pixel have none, since one image has nothing to normalise there over.
"""
