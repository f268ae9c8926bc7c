"""What a step did to the loss of its own examples: a few of them, measured before and after. Costs under a hundredth of a long training."""

from __future__ import annotations

from collections.abc import Sequence

from burnish.data.examples import Example
from burnish.sft.step import Stepper

FIRST, EVERY, SHARE = 10, 25, 16
"""The first so many steps are probed, then every so-manieth; one example in so many is measured (at least two)."""


class Overshoot:
    """Made before the step's move, asked after it. A step that raises the loss of its own examples went too far."""

    def __init__(self, stepper: Stepper, examples: Sequence[Example], step: int) -> None:
        wanted = step <= FIRST or step % EVERY == 0
        self.stepper = stepper
        self.examples = list(examples[:: max(1, len(examples) // max(2, len(examples) // SHARE))]) if wanted else []
        self.before = stepper.mean_logp(self.examples) if wanted else 0.0

    def metrics(self) -> dict[str, float]:
        """update/loss_change: nats per loss token, after less before; {} in steps that are not probed."""
        return {"update/loss_change": self.before - self.stepper.mean_logp(self.examples)} if self.examples else {}
