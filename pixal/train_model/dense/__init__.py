"""The parts of the dense autoencoder: the projection onto the good images' subspace, the network within it."""
