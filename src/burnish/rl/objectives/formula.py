"""Formula: a config that can say in words and in LaTeX what it computes, with its own numbers."""

from __future__ import annotations

import re
from typing import Any, ClassVar

from burnish.runs.config import Config


class Formula(Config):
    """formula: the text `describe()` prints, with fields or properties in braces. tex: the same in LaTeX (math mode), as <field>.

    A property whose name ends in _tex is LaTeX already.
    """

    formula: ClassVar[str] = ""
    tex: ClassVar[str] = ""

    def describe(self) -> str:
        """The formula with its numbers."""
        return self.formula.format_map(_Attributes(self))

    def latex(self) -> str:
        """The formula in LaTeX, with its numbers; the text's where the class gives none."""
        return self.fill(self.tex) if self.tex else words(self.describe())

    def fill(self, tex: str) -> str:
        """A LaTeX template with <field> replaced by the field's value."""

        def put(found: re.Match[str]) -> str:
            value = getattr(self, found[1])
            return str(value) if found[1].endswith("_tex") else number(value)

        return re.sub(r"<(\w+)>", put, tex)


class _Attributes(dict[str, Any]):
    """An object's attributes as a mapping."""

    def __init__(self, owner: Any):
        super().__init__()
        self.owner = owner

    def __missing__(self, name: str) -> Any:
        return getattr(self.owner, name)


def number(value: Any) -> str:
    """A field's value in LaTeX: 1e-06 -> 10^{-6}, 0.0003 -> 3 \\cdot 10^{-4}; text upright."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return words(str(value))
    if not value or abs(value) >= 1e-3:
        return f"{value:.6g}"
    mantissa, power = f"{value:.5e}".split("e")
    factor = f"{float(mantissa):g}"
    return (r"" if factor == "1" else factor + r" \cdot ") + f"10^{{{int(power)}}}"


def words(text: str) -> str:
    """Plain text inside LaTeX's math mode."""
    plain = text.replace("\\", " ").replace("{", "(").replace("}", ")").replace("~", " ").replace("^", "**")
    return r"\mathrm{" + re.sub(r"([_%&#$])", r"\\\1", plain).replace(" ", r"\ ") + "}"


def text_of(part: Any, latex: bool = False) -> str:
    """What a part computes; a user's own part without a formula is named."""
    told = getattr(part, "latex" if latex else "describe", None)
    if told is not None:
        return str(told())
    return words(name_of(part)) if latex else name_of(part)


def name_of(part: Any) -> str:
    """A part's name as in a config."""
    return str(getattr(part, "name", None) or getattr(part, "__name__", None) or type(part).__name__)
