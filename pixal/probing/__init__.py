"""Looks into trained models: the latents of parts, and how well they are reconstructed."""
