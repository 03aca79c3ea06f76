"""Training with Keras, the same for every family that does: the fit, its data, losses, devices and files."""
