"""What a training tells about itself after every iteration."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["LOSS_TERMS", "Progress"]

LOSS_TERMS = ("count", "occupancy", "location", "background")
"""Terms of the loss, in order; means over frames."""


@dataclass(frozen=True, slots=True)
class Progress:
    """State after an iteration; `validation` is filled when one was made.

    Parameters
    ----------
    iteration, iterations
        Done, and in all (an estimate where a time budget decides).
    loss
        Mean over frames, and over processes.
    gradient_norm
        Before clipping.
    seconds_per_iteration
        Recently.
    validation
        Measures by name.
    terms
        Terms of the loss by name, see `LOSS_TERMS`.
    learning_rate
        Of this iteration.
    restarts
        How often the training had to begin again so far.
    event
        One line for the person, when something unusual happened.
    """

    iteration: int
    iterations: int
    loss: float
    gradient_norm: float
    seconds_per_iteration: float
    validation: dict[str, float] | None = None
    terms: dict[str, float] = field(default_factory=dict)
    learning_rate: float = float("nan")
    restarts: int = 0
    event: str | None = None

    @property
    def seconds_left(self) -> float:
        """Estimated time to the end."""
        return (self.iterations - self.iteration) * self.seconds_per_iteration
