"""What a policy is asked for: the one argument of every function that a row of `recipes.policies` names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ideogram_q8.recipes.statistics import Statistics
from ideogram_q8.sources import Checkpoint


@dataclass(frozen=True)
class PolicyRequest:
    """A recipe to be made.

    Attributes:
        source: the checkpoint whose Linears are chosen for.
        measured: the statistics; None unless the policy's row says that it needs them.
        stats_sha256: of their file, likewise.
        device: where products are computed.
        on_progress: to be called with how many measurements are done, and how many there are.
        alpha, protect, target_size, no_rotation, weight_only: the options of `recipe make`; None where not given. `target_size` is in
            gigabytes (10^9 bytes).
    """

    source: Checkpoint
    measured: Statistics | None = None
    stats_sha256: str | None = None
    device: str = "cpu"
    on_progress: Callable[[int, int], None] | None = None
    alpha: float | None = None
    protect: int | None = None
    target_size: float | None = None
    no_rotation: bool | None = None
    weight_only: bool | None = None

    @property
    def statistics(self) -> Statistics:
        """The statistics, where the policy needs them."""
        assert self.measured is not None, "the policy's row must say that it needs statistics"
        return self.measured

    @property
    def budget(self) -> int | None:
        """`target_size` in bytes."""
        return None if self.target_size is None else round(self.target_size * 1e9)
