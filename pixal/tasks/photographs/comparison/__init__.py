"""Compare model families and settings by the planted defects that their models find."""
