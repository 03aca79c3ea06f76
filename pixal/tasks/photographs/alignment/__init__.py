"""Align photographs to the reference of their type."""
