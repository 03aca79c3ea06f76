"""Measure which defects a trained model finds, with defects planted on held-out good parts."""
