"""From a batch of photographs to verdicts, measures and figures."""
