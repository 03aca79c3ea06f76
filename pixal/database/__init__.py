"""The history of a component: a database of its batches, which can be rebuilt from their files, and queries."""
