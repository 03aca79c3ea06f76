"""
The outline of a region
=======================

A part fails if a single pixel of its anomaly map is above the threshold. But where does the region end? PIXAL uses
two levels (hysteresis): a region needs a pixel above the threshold, and extends to all connected pixels above
``region_threshold`` times the threshold.
"""

import cv2
import matplotlib.pyplot as plt
import numpy as np

from pixal.validation.regions import find_regions

# %%
# An anomaly map with noise, a defect with a faint tail, and a bump that stays below the threshold.

rng = np.random.default_rng(1)
y, x = np.mgrid[:120, :200]
anomaly_map = np.abs(cv2.GaussianBlur(rng.normal(size=(120, 200)), None, 2)) * 4
anomaly_map += 4.0 * np.exp(-((x - 70) ** 2 / 90 + (y - 60) ** 2 / 60))  # the defect
anomaly_map += 2.2 * np.exp(-((x - 95) ** 2 / 500 + (y - 66) ** 2 / 40))  # its tail
anomaly_map += 1.9 * np.exp(-((x - 165) ** 2 + (y - 35) ** 2) / 120)  # the bump
anomaly_map = anomaly_map.astype(np.float32)

# %%
# ``deviations`` says how much each channel contributes. The homography maps the photograph to the map: here the
# photograph has twice as many pixels per side.

THRESHOLD, LOW = 3.0, 0.6
deviations = np.stack([anomaly_map, 0.5 * anomaly_map], axis=-1)
regions = find_regions(
    anomaly_map,
    deviations,
    ("LAB_L", "GradMag"),
    threshold=THRESHOLD,
    low=LOW,
    photo_to_input=np.diag([0.5, 0.5, 1.0]),
    size=(240, 400),
)
for region in regions:
    print(region)

# %%
# White: the threshold. Cyan: 0.6 of it. Only the outline around the defect counts: the bump has no pixel above the
# threshold.

figure, ax = plt.subplots(figsize=(8, 4.6), layout="constrained")
figure.colorbar(ax.imshow(anomaly_map, cmap="magma"), ax=ax, label="anomaly map")
ax.contour(anomaly_map, [LOW * THRESHOLD], colors="cyan", linewidths=1)
ax.contour(anomaly_map, [THRESHOLD], colors="white", linewidths=1.5)
for region in regions:
    left, top, width, height = region.reference
    ax.add_patch(plt.Rectangle((left - 0.5, top - 0.5), width, height, fill=False, edgecolor="white", linestyle="--"))
    ax.annotate(f"{region.peak:.1f}", (left, top - 3), color="white")
ax.set_axis_off()
