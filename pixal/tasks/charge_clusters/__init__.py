"""The task ``charge_clusters``: the position and angles of a particle from the charge that it leaves in silicon pixels.

Arrays that modules pass to each other:

- ``charge``: (n, rows, columns, slices) float32. In electrons where it is called raw, else normalised as the metadata
  of the model input say. Rows are along y (short pitch), columns along x (long pitch).
- ``labels``: (n, 4) float32, in the order of ``TARGETS``: x and y at the middle of the sensor in µm, and the
  cotangents of the two angles. Scaled labels are labels divided by ``label_scale`` (4,).
- The network's output, (n, 14) float32: x, L11, y, L22, cotAlpha, L33, cotBeta, L44, L21, L31, L32, L41, L42, L43.
  These are the means and the lower triangular Cholesky factor of the covariance, in units of the label scales.
"""

TARGETS = ("x", "y", "cotAlpha", "cotBeta")
"""The names of the four targets, in the order of all arrays."""
