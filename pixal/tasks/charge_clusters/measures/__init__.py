"""How good predictions of position and angles are: measures, simple estimators to compare with, figures, a page."""
