"""Photographs of parts: find what deviates from good ones."""
