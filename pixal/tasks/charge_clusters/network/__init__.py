"""Networks from charge clusters to a mean and a covariance of four targets, and their form for a chip.

The modules import Keras. ``settings.py`` does not, because the command line reads it.
"""
