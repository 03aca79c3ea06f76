"""Shared by all families trained with Keras: the training loop, losses, learning rates, hardware and files."""
