"""Quantized artifacts on disk: writers and readers of their weight files and folders."""

from ideogram_q8.builds.reader import Artifact, ArtifactBranch, open_artifact

__all__ = ["Artifact", "ArtifactBranch", "open_artifact"]
