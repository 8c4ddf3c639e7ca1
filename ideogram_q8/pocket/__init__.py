"""The embedded model: where its weights lie. Building, training and measuring it are this package's other modules."""

from __future__ import annotations

from pathlib import Path

WEIGHTS = Path(__file__).resolve().parent / "weights"
"""Folder of the embedded weights, in the official FP8 layout."""
