"""The photographs in ``pixal serve``: components, and the pictures of their parts."""
