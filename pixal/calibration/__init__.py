"""From the errors of held-out good parts to calibrated maps, scores, p-values and thresholds."""
