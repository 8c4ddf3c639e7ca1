"""Operators on rows: norms, RoPE, the guided step."""
