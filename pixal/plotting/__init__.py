"""Pictures: arrays in, a matplotlib Figure or an RGB image out; where it is saved is the caller's matter.

Figures are made without pyplot, so that no state is shared and threads may draw at once.
"""
