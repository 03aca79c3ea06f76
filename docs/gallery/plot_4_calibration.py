"""
Calibration and p-values
========================

The same error can be normal at one pixel and a defect at another: a serial number differs on every part, a trace does
not. PIXAL therefore divides the error by its spread on good parts. This page does it step by step, with the simplest
model there is: the mean of the good parts.
"""

import cv2
import matplotlib.pyplot as plt
import numpy as np

from pixal.calibration.calibration import calibrate
from pixal.calibration.maps import calibrated_maps, part_scores
from pixal.calibration.settings import Threshold
from pixal.calibration.thresholds import p_values, set_threshold
from pixal.synthetic import draw_component, render_photograph
from pixal.tasks.photographs.network_input.channels import compute_channels

# %%
# 30 good parts and one with a scratch, moved to the reference frame. (PIXAL finds the pose with SIFT features; here
# it is known.)

FRAME = (480, 270)
CHANNELS = ["LAB_L", "LAB_a", "LAB_b"]
component, mask = draw_component("front", FRAME)


def part(seed, defects):
    """One rendered part as channels in the reference frame, (H, W, C)."""
    photo = render_photograph(component, mask, defects, np.random.default_rng(seed), frame_size=FRAME, severity=0.8)
    aligned = cv2.warpPerspective(photo.image, np.linalg.inv(photo.pose), FRAME, flags=cv2.INTER_CUBIC)
    gain = component[mask > 0].mean(0) / aligned[mask > 0].mean(0)  # the light of the reference
    return compute_channels(np.clip(aligned * gain, 0, 255).astype(np.uint8), CHANNELS)


inside = cv2.erode(mask, np.ones((5, 5), np.uint8)) > 0
good = np.stack([part(seed, []) for seed in range(30)])
scratched = part(105, ["scratch"])

# %%
# Hold good parts out in five folds. The error of a part is its difference to the mean of the parts in the *other*
# folds, as it will be for a new part.

folds = [np.arange(first, 30, 5) for first in range(5)]
errors = np.empty_like(good)
for fold in folds:
    errors[fold] = good[fold] - np.delete(good, fold, axis=0).mean(0)

weights = np.ones(len(CHANNELS), np.float32)
calibration = calibrate(errors, folds, mask=inside, weights=weights, smoothing=1.0)

# %%
# Left to right: the error of the scratched part, the spread of the errors of good parts, and the anomaly map, which
# is one divided by the other. The serial number has large errors and a large spread, so it is dark in the map.

error = scratched - good.mean(0)
anomaly_map = calibrated_maps(error[None], calibration.variance, inside, weights, 1.0)[0]
panels = {
    "error": np.sqrt((error**2).mean(-1)) * inside,
    "spread of good parts": np.sqrt(calibration.variance.mean(-1)) * inside,
    "anomaly map": anomaly_map,
}
figure, axes = plt.subplots(3, 1, figsize=(8, 8.5), layout="constrained")
for ax, (title, values) in zip(axes, panels.items(), strict=True):
    figure.colorbar(ax.imshow(values[70:200, 70:410], cmap="magma"), ax=ax)
    ax.set_title(title)
    ax.set_axis_off()

# %%
# The score of a part is the largest value of its map. The threshold follows from the scores of held-out good parts
# and from the fraction of good parts that may fail.

threshold, method = set_threshold(calibration.scores, 0.05, Threshold())
score = part_scores(anomaly_map[None])
[p_value] = p_values(score, calibration.scores, method)

figure, ax = plt.subplots(figsize=(8, 3.4), layout="constrained")
ax.hist(calibration.scores, bins=12, color="#2a9d8f", label="held-out good parts")
ax.axvline(threshold, color="black", linestyle="--", label=f"threshold for 5 % ({method})")
ax.axvline(score[0], color="#d1495b", label=f"part with a scratch: p-value {p_value:.2g}")
ax.set(xlabel="score", ylabel="parts")
ax.legend()

# %%
# A p-value is the fraction of good parts that would score this high. Among 30 good parts no rank can be below 1/31;
# smaller values are extrapolated by a fitted tail. The text of :doc:`../method` has the formulas.
