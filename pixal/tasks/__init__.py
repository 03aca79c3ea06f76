"""Kinds of input. Each task is one folder; ``pixal.registry`` lists them."""
