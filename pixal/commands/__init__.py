"""The commands: options, help, and one module per verb."""
