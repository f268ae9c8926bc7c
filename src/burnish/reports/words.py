"""How numbers and untrusted text are written for people, the same in HTML, terminal and Markdown."""

from __future__ import annotations

import math
from typing import Any

_BIDI = {*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F, 0x061C}


def number(value: Any, digits: int = 3) -> str:
    """A number in few characters; integers whole with thin groups, very large and very small ones with an exponent; "–" for none."""
    if value is None or isinstance(value, str):
        return value or "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not math.isfinite(value):
        return str(value)
    if float(value).is_integer() and abs(value) < 1e7:
        return f"{int(value):,}"
    if abs(value) >= 1e7 or 0 < abs(value) < 10.0**-digits:
        return f"{value:.2e}"
    if abs(value) >= 100:
        return f"{value:,.1f}"
    return f"{value:.{digits}f}"


def share(value: float) -> str:
    """0.1234 -> "12.3 %"."""
    return f"{100 * value:.1f} %" if math.isfinite(value) else "–"


def seconds(value: float | None) -> str:
    """A duration: 340 ms, 12.3 s, 4 min 05 s, 2 h 10 min."""
    if value is None or not math.isfinite(value):
        return "–"
    if value == 0:
        return "0 s"
    if abs(value) < 1:
        return f"{1000 * value:.0f} ms"
    if value < 100:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def megabytes(value: float | None) -> str:
    """Megabytes (2^20 bytes) as MB or GB."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value / 1024:.2f} GB" if value >= 1024 else f"{value:.0f} MB"


def interval(mean: float | None, low: float | None = None, high: float | None = None) -> str:
    """ "0.612 [0.581, 0.642]"; the brackets are left out where the interval is unknown."""
    if mean is None:
        return "–"
    known = low is not None and high is not None and math.isfinite(low) and math.isfinite(high)
    return f"{mean:.3f} [{low:.3f}, {high:.3f}]" if known else f"{mean:.3f}"


def clip(text: str, limit: int) -> str:
    """At most `limit` characters; what was cut is said."""
    return text if len(text) <= limit else f"{text[:limit]} … (+{len(text) - limit:,} characters)"


def safe(text: str) -> str:
    """Text that can be shown without surprises: lone surrogates replaced; control and direction-changing characters made visible.

    This does not escape HTML; the template does.
    """
    out = []
    for char in text.encode("utf-8", "replace").decode("utf-8"):
        code = ord(char)
        if (code < 32 and char not in "\n\t") or code == 127:
            out.append(chr(0x2421 if code == 127 else 0x2400 + code))
        elif code in _BIDI or 0x80 <= code < 0xA0:
            out.append(f"⟨U+{code:04X}⟩")
        else:
            out.append(char)
    return "".join(out)
