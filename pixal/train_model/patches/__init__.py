"""What PaDiM and PatchCore share: features of a frozen backbone."""
