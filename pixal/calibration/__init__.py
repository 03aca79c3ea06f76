"""From errors of held-out good parts to maps, scores, p-values and thresholds; the same for every model family."""
