"""
Planted defects
===============

PIXAL draws defects of known kind, size and contrast on photographs of good parts, to measure which ones a model
finds. This figure shows one of each kind, large and strong enough to be seen. The defects are drawn in the frame of
the photograph, so they are turned and tilted with the part.
"""

# sphinx_gallery_thumbnail_number = 2
import matplotlib.pyplot as plt
import numpy as np

from pixal.defects import plant, sample_defects
from pixal.registry import DEFECTS
from pixal.synthetic import draw_component, render_photograph

# %%
# A rendered photograph of a good part. ``photo.pose`` maps the reference frame to the photograph.

FRAME = (1280, 720)
reference, mask = draw_component("front", FRAME)
photo = render_photograph(reference, mask, [], np.random.default_rng(3), frame_size=FRAME)
to_reference = np.linalg.inv(photo.pose)

figure, ax = plt.subplots(figsize=(8, 4.5))
ax.imshow(photo.image)
ax.set_axis_off()

# %%
# One defect of each kind. ``sample_defects`` chooses a place where the kind can occur, for example at an edge of the
# print or on the outline. ``plant`` returns a new photograph, the pixels that changed, and the contrast as drawn.

SIZES = {"scratch": 2.5, "fibre": 2.5, "stain": 30.0}
SIDE = 64  # pixels shown around each defect

figure, axes = plt.subplots(3, 4, figsize=(8, 6.6), layout="constrained")
for ax, kind in zip(axes.flat, DEFECTS.builtin, strict=True):
    [defect] = sample_defects(mask > 0, [kind], [SIZES.get(kind, 16.0)], [-0.4], places=1, seed=5, image=reference)
    planted = plant(photo.image, defect, to_reference, mask > 0)
    x, y, w = photo.pose @ (*defect.place, 1)
    left, top = int(x / w) - SIDE // 2, int(y / w) - SIDE // 2
    ax.imshow(planted.image[max(top, 0) : top + SIDE, max(left, 0) : left + SIDE])
    ax.set_title(f"{kind}\ncontrast {planted.contrast:.2f}", fontsize=9)
    ax.set_axis_off()

# %%
# ``pixal sensitivity`` plants such defects in many sizes on held-out good parts, and counts which ones the model
# finds.
