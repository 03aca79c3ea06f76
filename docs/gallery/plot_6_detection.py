"""
Which sizes are found
=====================

Planted defects of several sizes were found or missed. The probability of detection grows with the size. Two numbers
summarise it:

- **a90**: the size that is found in 9 of 10 cases.
- **a90/95**: its upper confidence bound: the size that is found in 9 of 10 cases, with 95 % confidence.
"""

import matplotlib.pyplot as plt
import numpy as np

from pixal.validation.detection_probability import fit_detection_curve

# %%
# 20 defects of each size. The true curve is known here: half of the defects of 4 pixels are found.

rng = np.random.default_rng(2)
sizes = np.repeat([1.0, 1.6, 2.5, 4.0, 6.3, 10.0, 16.0], 20)
found = rng.random(sizes.size) < 1 / (1 + (4.0 / sizes) ** 3)

curve = fit_detection_curve(sizes, found)
print(f"a90 = {curve.a90:.1f} pixels, a90/95 = {curve.a90_95:.1f} pixels")

# %%
# The fitted curve with its 95 % band. Points are the fractions found.

grid = np.geomspace(1, 16, 200)
low, high = curve.band(grid)
figure, ax = plt.subplots(figsize=(8, 4.2), layout="constrained")
ax.fill_between(grid, low, high, alpha=0.2, label="95 % band")
ax.plot(grid, curve.probability(grid), label="fitted curve")
ax.plot(grid, 1 / (1 + (4.0 / grid) ** 3), "k:", label="true curve")
ax.plot(curve.sizes, curve.found / curve.planted, "o", label="20 defects each")
ax.axvline(curve.a90, color="tab:green", linewidth=1, label="a90")
ax.axvline(curve.a90_95, color="tab:red", linewidth=1, label="a90/95")
ax.set(xscale="log", xlabel="size, pixels", ylabel="probability of detection")
ax.legend()

# %%
# More defects per size bring a90/95 closer to a90. PIXAL plants 20 per size, kind and contrast by default.
