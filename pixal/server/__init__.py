"""The local pages of ``pixal serve``: batches, parts and marks in a browser."""
