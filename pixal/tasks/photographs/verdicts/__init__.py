"""Verdicts on photographs: validate, detect, watch, results and report."""
