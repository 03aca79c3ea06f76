"""Training with Keras, shared by the autoencoders."""
