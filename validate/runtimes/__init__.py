"""What else runs a model: files exported for ONNX Runtime, and passes that torch.compile compiled."""
