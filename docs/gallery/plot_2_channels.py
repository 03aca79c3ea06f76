"""
Channels
========

The input of a model is not R, G and B, but *channels*: values that are computed for each pixel. There are 23. The
default uses four: lightness, two colour differences, and edges.

Each channel has a fixed scale from 0 to 1. So the same colour has the same value in every photograph.
"""

# sphinx_gallery_thumbnail_number = 2
import matplotlib.pyplot as plt
import numpy as np

from pixal.synthetic import draw_component, render_photograph
from pixal.tasks.photographs.network_input.channels import channel_names, compute_channels

# %%
# A photograph, and the area that is shown below.

FRAME = (1280, 720)
photo = render_photograph(*draw_component("front", FRAME), ["stain"], np.random.default_rng(4), frame_size=FRAME)
rows, columns = np.nonzero(photo.foreground)
centre = int(np.median(rows)), int(np.median(columns))
cut = np.s_[centre[0] - 110 : centre[0] + 110, centre[1] - 160 : centre[1] + 160]

figure, ax = plt.subplots(figsize=(8, 4.5))
ax.imshow(photo.image)
ax.add_patch(plt.Rectangle((centre[1] - 160, centre[0] - 110), 320, 220, fill=False, edgecolor="white"))
ax.set_axis_off()

# %%
# All channels. ``ALL`` is the order of the documentation. A channel that is nearly the same everywhere tells a model
# little about this part.

names = channel_names("ALL")
channels = compute_channels(photo.image, names)

figure, axes = plt.subplots(6, 4, figsize=(8, 8.6), layout="constrained")
for ax, name, plane in zip(axes.flat, names, np.moveaxis(channels[cut], -1, 0), strict=False):
    ax.imshow(plane, cmap="gray", vmin=0, vmax=1)
    ax.set_title(name, fontsize=9)
for ax in axes.flat:
    ax.set_axis_off()
