"""The sandbox that a config asks for by name, or the reason why there is none."""

from __future__ import annotations

from typing import Any

from burnish.chat.sandbox.process import Process
from burnish.runs.errors import UserError, did_you_mean

LEVELS = ("process", "strict")


def make_sandbox(level: Any, where: str, **limits: Any) -> Process:
    """level: "process" (see `Process` for what it does not stop). where: begins the error. limits: arguments of `Process`.

    Raises UserError for no level, for strict, which does not exist yet, and for unknown levels: untrusted code never runs by default.
    """
    if level is None or level == "strict":
        what = "no sandbox is named" if level is None else "sandbox strict does not exist yet"
        raise UserError(
            f"{where}: {what}, and untrusted code runs only in one that you chose; write `sandbox: process` (limits of time, memory and "
            "processes, empty environment; the network and your files stay open to it)"
        )
    if level != "process":
        raise UserError(f"{where}: sandbox {level!r} is unknown; {did_you_mean(str(level), LEVELS)}")
    return Process(**limits)
