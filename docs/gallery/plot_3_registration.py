"""
Local registration
==================

A flexible part is bent a little differently on each photograph. The alignment moves it as a rigid plane, so print can
be off by a pixel or two, and its edges then look like defects. PIXAL finds the smooth displacement that is left, and
undoes it. A defect is much smaller than the window that is used, so it stays.
"""

import cv2
import matplotlib.pyplot as plt
import numpy as np

from pixal.synthetic import draw_component
from pixal.tasks.photographs.network_input.local_registration import (
    find_displacement,
    registration_levels,
    undo_displacement,
)

# %%
# The reference, and the same part bent by up to 1.5 pixels, with a dark spot.

reference, mask = draw_component("front", (960, 540))
y, x = np.mgrid[: reference.shape[0], : reference.shape[1]].astype(np.float32)
bend_x, bend_y = 1.5 * np.sin(y / 60), 1.5 * np.sin(x / 130)
bent = cv2.remap(reference, x - bend_x, y - bend_y, cv2.INTER_CUBIC)
cv2.circle(bent, (560, 265), 4, (30, 40, 10), -1, cv2.LINE_AA)

part = cv2.erode(mask, np.ones((7, 7), np.uint8)) > 0
reference, bent = (np.asarray(image, np.float32) / 255 for image in (reference, bent))

# %%
# Find the displacement and undo it.

field = find_displacement(bent, registration_levels(reference, part))
straight = undo_displacement(bent, field)

# %%
# The difference to the reference before and after. Before, every edge differs; after, the spot is what differs most.

figure, axes = plt.subplots(2, 1, figsize=(8, 5.6), layout="constrained")
for ax, image, title in zip(axes, (bent, straight), ("rigid alignment only", "with local registration"), strict=True):
    difference = np.abs(image - reference).max(-1) * part
    shown = ax.imshow(difference[160:380, 170:790], cmap="magma", vmin=0, vmax=0.5)
    ax.set_title(f"{title}: mean difference {difference[part].mean():.3f}")
    ax.set_axis_off()
figure.colorbar(shown, ax=axes, label="difference, largest of R, G, B")

# %%
# The displacement that was planted along x, and the one that was found.

found = field[..., 0]
figure, axes = plt.subplots(2, 1, figsize=(8, 5.6), layout="constrained")
for ax, values, title in zip(axes, (bend_x, found), ("planted", "found"), strict=True):
    shown = ax.imshow(np.where(part, values, np.nan)[160:380, 170:790], cmap="coolwarm", vmin=-2, vmax=2)
    ax.set_title(title)
    ax.set_axis_off()
figure.colorbar(shown, ax=axes, label="displacement along x, pixels")
