"""The commands: one module per group of public functions, and the parser of the command line."""
