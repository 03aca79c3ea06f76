"""Apply trained networks without TensorFlow: in ONNX Runtime, from graphs that training wrote."""
