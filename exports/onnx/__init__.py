"""ONNX files: export, reading, running, parity with torch."""
