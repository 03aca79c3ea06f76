"""Model families, their training and their calibration; the only place that imports TensorFlow."""
