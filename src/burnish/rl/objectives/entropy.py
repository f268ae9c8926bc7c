"""The entropy bonus: - eta H in the loss, with a fixed coefficient or one that keeps the entropy at a target."""

from __future__ import annotations

from pydantic import Field

from burnish.rl.objectives.formula import number
from burnish.runs.config import Config


class AdaptiveEta(Config):
    """c <- c + step where the entropy of an optimiser step is under the target, else c - step (never under 0); eta = c while it is under.

    Skywork-OR1, arXiv 2505.22312, adaptive entropy control; there target 0.2 and step 0.005. The entropy is that of the step before.
    """

    target: float = Field(0.2, gt=0, description="entropy aimed at, in nats per token")
    step: float = Field(0.005, gt=0, description="how far the coefficient moves at each optimiser step")

    def next(self, coefficient: float, entropy: float) -> float:
        """The coefficient after an optimiser step."""
        return max(0.0, coefficient + (self.step if entropy < self.target else -self.step))

    def eta(self, coefficient: float, entropy: float | None) -> float:
        """What is used: nothing while the entropy is above the target."""
        return coefficient if entropy is None or entropy <= self.target else 0.0


class Entropy(Config):
    """- eta * H in the loss. measure: have the entropy computed for the metrics even where eta is 0 (it costs no backward pass)."""

    eta: float = Field(0.0, description="coefficient of the entropy bonus; with adaptive: where it starts")
    measure: bool = Field(True, description="measure the entropy for the metrics")
    adaptive: AdaptiveEta | None = Field(None, description="move eta towards a target entropy")

    @property
    def active(self) -> bool:
        """True where the loss may hold an entropy term."""
        return bool(self.eta) or self.adaptive is not None

    def describe(self) -> str:
        """The term, or none."""
        adaptive = f", eta adaptive to H = {self.adaptive.target} in steps of {self.adaptive.step}" if self.adaptive else ""
        return f"- {self.eta} * H{adaptive}" if self.active else "none"

    def latex(self) -> str:
        """H, and how eta follows its target."""
        text = r"H = -\sum_v p(v) \log p(v)"
        if self.adaptive is None:
            return text
        step, target = number(self.adaptive.step), number(self.adaptive.target)
        return text + rf", \quad \eta \leftarrow \eta + {step}\, \mathrm{{sign}}({target} - H)"
