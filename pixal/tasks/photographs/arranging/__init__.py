"""Make an input folder, or the truth of a batch, from tables and folders of photographs."""
