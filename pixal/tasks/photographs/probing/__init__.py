"""Inspect trained models: latent vectors, and how well parts are reconstructed."""
