"""From photographs to network input."""
