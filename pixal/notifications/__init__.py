"""Tell other programs about verdicts at once: a webhook or a command, without ever delaying a verdict."""
