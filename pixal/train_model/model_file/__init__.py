"""A trained model as one file: written by ``pixal export``, read by ``pixal import`` and ``validate --model``."""
