"""``pixal check`` and ``pixal status``: what would be done, and what has been done. Nothing is written."""
