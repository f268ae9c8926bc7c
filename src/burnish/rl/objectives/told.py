"""An objective told in words and in LaTeX: only the terms in use, with the numbers in use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from burnish.rl.objectives.formula import name_of, number, text_of

if TYPE_CHECKING:
    from burnish.rl.objectives.objective import Objective


def in_words(objective: Objective) -> str:
    """One line for the loss and one for each knob."""
    kl, entropy = objective.kl, objective.entropy
    loss = "-S" + (" c" if objective.correction else "") + (f" + {kl.beta} K" if _in_loss(objective) else "")
    loss += (" - eta H" if entropy.adaptive else f" - {entropy.eta} H") if entropy.active else ""
    named = {"ratio": objective.ratio, "surrogate": objective.surrogate, "weights": objective.weights}
    told = {knob: f"{name_of(part)}: {text_of(part)}" if hasattr(part, "describe") else name_of(part) for knob, part in named.items()}
    return "\n".join(
        [
            f"{objective.name}: loss = sum_it w_it [{loss}]; l: log-prob now, l_o: at the update's start, l_b: the sampler's",
            f"  credit      {objective.credit.describe()}",
            f"  ratio       {told['ratio']}",
            f"  surrogate   {told['surrogate']}",
            f"  correction  {' * '.join(text_of(part) for part in objective.correction) or 'none'}",
            f"  kl          {kl.describe()}",
            f"  weights     {told['weights']}",
            f"  entropy     {entropy.describe()}",
        ]
    )


def in_latex(objective: Objective) -> str:
    """One formula a line, each between dollar signs, in the order in which they are computed."""
    kl, entropy = objective.kl, objective.entropy
    loss = "-S_{it}" + (r"\, c_{it}" if objective.correction else "") + (rf" + {number(kl.beta)}\, K_{{it}}" if _in_loss(objective) else "")
    if entropy.active:
        loss += r" - \eta\, H_{it}" if entropy.adaptive else rf" - {number(entropy.eta)}\, H_{{it}}"
    lines = [rf"\mathcal{{L}} = \sum_{{i,t}} w_{{it}} \left[ {loss} \right]"]
    lines += [kl.latex()] if kl.active and kl.place == "reward" else []
    lines += objective.credit.latex()
    lines += [kl.latex()] if kl.active and kl.place == "advantage" else []
    lines += [text_of(part, latex=True) for part in (objective.ratio, objective.surrogate, *objective.correction)]
    lines += [kl.latex()] if _in_loss(objective) else []
    lines += [text_of(objective.weights, latex=True), *([entropy.latex()] if entropy.active else [])]
    return "\n".join(f"${line}$" for line in lines)


def _in_loss(objective: Objective) -> bool:
    return objective.kl.active and objective.kl.place == "loss"
