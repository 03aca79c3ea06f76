"""Scores and regions from the output of a model, and measures against known truth."""
