"""The parts of the convolutional autoencoder: its network, and the tiles it is trained on."""
