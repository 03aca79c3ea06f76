"""Marks of inspectors make the next model: accepted parts, candidates, and what promotes them."""
