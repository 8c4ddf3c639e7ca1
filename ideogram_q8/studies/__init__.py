"""Ablations and one-off pages. Only the command line imports them."""
