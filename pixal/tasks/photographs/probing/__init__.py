"""The ``encode`` and ``evaluate`` commands."""
