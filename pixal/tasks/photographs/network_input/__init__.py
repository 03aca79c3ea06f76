"""From an aligned photograph to network input: mask, light, channels, pooling."""
