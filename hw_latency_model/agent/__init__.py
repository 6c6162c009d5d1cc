"""Measurement agent for boards: Python 3.6 and the standard library only.

``board/kit.py`` packs this folder into one file, ``paretoseg_agent.pyz``, in which the package is called ``paretoseg_agent``.
Modules import each other relatively, and nothing else of this repository. Runtimes are imported only when used: ``tensorrt``
(7.1 to 11, distinguished by their attributes), ``onnxruntime``, ``torch``, ``numpy``; the CUDA runtime through ctypes.
"""
