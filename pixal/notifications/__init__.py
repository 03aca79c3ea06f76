"""Send verdicts to other programs in the background: to a webhook or a command."""
