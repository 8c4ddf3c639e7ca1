"""Measuring how much a variant's pictures differ from the original's."""
