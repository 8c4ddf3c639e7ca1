"""Captions as the transformers see them: encoded, projected once, and kept."""
