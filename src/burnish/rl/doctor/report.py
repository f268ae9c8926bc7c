"""The diagnosis for people: findings first, each with evidence and remedy, then the invariants and what could not be told."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from burnish.rl.doctor.finding import Diagnosis

STYLES = {"fault": "bold red", "warning": "bold yellow", "note": "bold", "held": "green", "broken": "bold red", "not measured": "dim"}
VERDICTS = {
    "faulty": "bold red",
    "warnings": "bold yellow",
    "healthy": "bold green",
    "too short to tell": "bold",
    "not enough to tell": "bold",
}


def show(found: Diagnosis, console: Console | None = None) -> None:
    """Prints everything; what comes out of the run (completions, file names) is printed as plain text."""
    console = console or Console()

    def line(text: str, style: str = "", indent: int = 0) -> None:
        console.print(Text(" " * indent + "".join(char if char.isprintable() else "?" for char in text), style=style), soft_wrap=True)

    line(f"{found.run}: stage {found.stage or 'unknown'}, {found.steps} steps")
    why = f" ({', '.join(found.untold)} could not judge)" if found.verdict == "not enough to tell" and found.untold else ""
    line(f"verdict: {found.verdict}{why}", VERDICTS[found.verdict])
    for finding in found.findings:
        line("")
        line(f"{finding.severity}: {finding.sentence} [{finding.id}]", STYLES[finding.severity])
        for text in finding.evidence:
            line(text, indent=2)
        if finding.remedy:
            line(f"remedy: {finding.remedy}", "cyan", indent=2)
    line("")
    line("invariants", "bold")
    for one in found.invariants:
        line(f"{one.state}: {one.name} ({one.why})", STYLES[one.state], indent=2)
    untold = {name: state for name, state in found.checks.items() if state not in ("clear", "found")}
    clear = [name for name, state in found.checks.items() if state == "clear"]
    line("")
    if clear:
        line(f"clear: {', '.join(clear)}", "green")
    for name, why in untold.items():
        line(f"{name}: {why}", "dim")
    for problem in found.problems:
        line(f"could not be read: {problem}", "yellow")
