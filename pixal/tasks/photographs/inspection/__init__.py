"""``inspect``: the figures of photographs, before any training, and what they say about the set."""
