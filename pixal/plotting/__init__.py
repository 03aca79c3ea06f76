"""Figures: functions that take arrays and return a matplotlib figure or an RGB image. The caller saves them.

They do not use pyplot: it keeps global state, and threads may draw at the same time.
"""
