"""What else runs a model: files exported for ONNX Runtime."""
