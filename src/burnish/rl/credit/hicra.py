"""HICRA: planning tokens get more credit and less blame (arXiv 2509.03646, "Objective").

`credit: group_mean >> hicra`, with the shaper `hicra` of `burnish.rl.rewards.hicra`, which says where the planning tokens are.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from burnish.rl.credit.maps import Marked


class Hicra(Marked):
    """A_t + alpha |A_t| on planning tokens, every other token bit for bit as it is.

    A planning token counts 1 + alpha times in a success and 1 - alpha times in a failure: the blame is softened, and no sign flips.
    Put it after any division by a standard deviation, which would else absorb a part of it. A group without variance stays at zero.
    """

    kind: ClassVar = "map"
    name: Literal["hicra"] = "hicra"  # type: ignore[assignment]
    alpha: float = Field(0.2, ge=0, lt=1, description="share by which planning tokens gain; from 1 on blame would turn into praise")


def hicra_naive(advantage: Tensor, planning: Tensor, alpha: float = 0.2) -> Tensor:
    """float64 [tokens], token by token: slow and obvious. planning: bool [tokens]."""
    found = [a + alpha * abs(a) if marked else a for a, marked in zip(advantage.double().tolist(), planning.tolist(), strict=True)]
    return torch.tensor(found, dtype=torch.float64)


part = Hicra
"""The credit step `hicra`."""
