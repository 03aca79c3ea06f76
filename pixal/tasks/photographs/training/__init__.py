"""Train on prepared photographs: training data, calibration, figures, and what is stored with a model."""
