"""The preprocessing commands and the fitted preprocessing of a type."""
