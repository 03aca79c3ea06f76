"""Find the part on a photograph."""
