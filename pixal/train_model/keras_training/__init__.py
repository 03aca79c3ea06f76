"""What all families trained with Keras share: the training loop, losses, learning rates, hardware and files."""
