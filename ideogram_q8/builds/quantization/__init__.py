"""A source and a recipe in, an artifact's folder out: a few rows at a time, reading, computing and writing at once.

    threads of a pool    read rows of a tensor, decode, fold and pack them; each works on one core (`part`)
    the writer           puts them into the file, in the tensors' order (`artifact.sink`)
    the syncer           waits for the disk and enters finished tensors in the journal
    the hashers          sha256 of the source meanwhile, of each written file after its last tensor (`run`)

What is in memory is a fixed number of pieces, whatever the size of the tensors. A run that was stopped (Ctrl-C, a kill, a full disk)
leaves its hidden folder, and the next one for the same source, recipe, file sizes and folder goes on from its journal.
"""

from ideogram_q8.builds.quantization.run import HEADER_ALLOWANCE, OnProgress, Progress, quantize

__all__ = ["HEADER_ALLOWANCE", "OnProgress", "Progress", "quantize"]
