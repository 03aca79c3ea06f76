"""Patch features of a pretrained network, shared by PaDiM and PatchCore."""
