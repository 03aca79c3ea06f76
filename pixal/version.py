"""The version of PIXAL."""

__version__ = "0.1.0"
