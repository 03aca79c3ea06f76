"""Train on prepared photographs: data, calibration, figures."""
