"""The model card: a README.md in Hugging Face's form, generated from the files of a run and nothing else."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from burnish.reports import tables, words
from burnish.reports.headlines import headlines
from burnish.reports.run_files import RunFiles, read_run
from burnish.reports.summary import Summary
from burnish.runs.errors import UserError

STAGES = {"sft": "supervised fine-tuning", "rl": "reinforcement learning"}
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_MAX_PARENTS = 8


def model_card(
    run: RunFiles | str | Path,
    name: str | None = None,
    adapter: bool = False,
    facts: Mapping[str, Any] | None = None,
    step: int | None = None,
) -> str:
    """The card of a run's model.

    name: the model's name; unset: the run folder's. adapter: True where the exported files are a PEFT adapter, not a whole model.
    facts: more lines for the list at the top (label -> value), e.g. {"Parameters": 2_000_000}.
    step: of the checkpoint that is exported: the model index holds what was measured there, if anything; None: the last evaluation.

    What the run does not know (a licence, a language) is not in the card. Raises UserError where the path holds no run.
    """
    run = run if isinstance(run, RunFiles) else read_run(run)
    name = name or run.path.resolve().name
    base, parents = origin(run)
    parts = [
        "---\n" + yaml.safe_dump(_header(run, name, base, adapter, step), sort_keys=False, allow_unicode=True) + "---\n",
        f"# {_inline(name)}\n",
        _facts(run, base, parents, facts or {}),
        _results(run),
        _fenced("Command", run.command, "bash"),
        _fenced("Configuration", run.config_text.rstrip("\n"), "yaml"),
        _versions(run),
    ]
    return "\n".join(part for part in parts if part)


def origin(run: RunFiles) -> tuple[str | None, list[RunFiles]]:
    """The model at the beginning of the chain (hub id or folder name), and the earlier runs between it and this one, the newest first."""
    parents: list[RunFiles] = []
    here: RunFiles = run
    while True:
        path = str(here.setting("model.path", "") or "")
        folder = local(path, here.path)
        if folder is None:
            return path or None, parents
        parent = _run_of(folder)
        if parent is None or parent.path in {run.path, *(earlier.path for earlier in parents)} or len(parents) >= _MAX_PARENTS:
            return folder.name, parents
        parents.append(parent)
        here = parent


def local(path: str, run_path: Path) -> Path | None:
    """The folder that a path of the config means, seen from here or from a folder above the run; None where there is none."""
    if not path:
        return None
    for start in (Path(), *run_path.resolve().parents):
        if (start / path).exists():
            return (start / path).resolve()
    return Path(path) if Path(path).is_absolute() else None


def _run_of(folder: Path) -> RunFiles | None:
    for path in (folder, folder.parent):
        if (path / "config.yaml").is_file() and (path / "run.json").is_file():
            try:
                return read_run(path)
            except UserError:
                return None
    return None


def hub_id(path: str | None, run_path: Path) -> str | None:
    """The path where it is an id of the hub rather than a folder."""
    return path if path and _HUB_ID.fullmatch(path) and local(path, run_path) is None else None


def _header(run: RunFiles, name: str, base: str | None, adapter: bool, step: int | None) -> dict[str, Any]:
    objective = run.setting("rl.objective") if run.stage == "rl" else None
    preset = objective.get("preset") if isinstance(objective, dict) else objective
    header: dict[str, Any] = {
        "base_model": hub_id(base, run.path),
        "library_name": "peft" if adapter else "transformers",
        "pipeline_tag": "text-generation",
        "tags": [tag for tag in ("burnish", run.stage, preset) if isinstance(tag, str) and tag],
        "datasets": [found] if (found := hub_id(str(run.setting("data.path", "")), run.path)) else None,
        "model-index": _model_index(run, name, step),
    }
    return {key: value for key, value in header.items() if value}


def _model_index(run: RunFiles, name: str, step: int | None) -> list[dict[str, Any]] | None:
    data = str(run.setting("eval.path") or run.setting("data.path") or "")
    measured = {
        kind: run.last(f"eval/{kind}") if step is None else dict(zip(*run.series(f"eval/{kind}"))).get(step) for kind in ("success", "loss")
    }
    metrics = [
        {"type": kind, "value": round(value, 6), "name": f"held-out {kind}"} for kind, value in measured.items() if value is not None
    ]
    if not metrics or not data:
        return None
    dataset = {"name": Path(data).name, "type": hub_id(data, run.path) or Path(data).name}
    return [{"name": name, "results": [{"task": {"type": "text-generation"}, "dataset": dataset, "metrics": metrics}]}]


def _facts(run: RunFiles, base: str | None, parents: list[RunFiles], facts: Mapping[str, Any]) -> str:
    lines: dict[str, Any] = {"Base model": base, "Stage": STAGES.get(run.stage, run.stage or None)}
    for parent in parents:
        lines[f"Before it ({parent.path.name})"] = STAGES.get(parent.stage, parent.stage or "an earlier run")
    data = str(run.setting("data.path", "") or "")
    lines["Data"] = hub_id(data, run.path) or Path(data).name if data else None
    rank = run.setting("model.lora.r", run.setting("model.lora.rank"))
    lines["Trained weights"] = (f"LoRA adapter, rank {rank}" if rank else "LoRA adapter") if run.setting("model.lora") else None
    lines |= facts
    return "".join(
        f"- {label}: {_inline(cell)}\n" for label, value in lines.items() if value is not None and (cell := tables.cell(label, value))
    )


def _results(run: RunFiles) -> str:
    rows = [line.row() for line in headlines(run)]
    arms = Summary.from_dict(run.summary).arms
    parts = [tables.markdown(tables.arm_rows(arms)), tables.markdown(rows)]
    unfinished = [f"Note: {words.safe(problem)}.\n" for problem in run.problems if problem.startswith("unfinished")]
    found = "\n".join(part for part in [*parts, *unfinished] if part)
    return f"## Results\n\n{found}" if found else ""


def _versions(run: RunFiles) -> str:
    versions = run.info.get("versions")
    rows = [{"package": package, "version": str(version)} for package, version in versions.items()] if isinstance(versions, dict) else []
    return f"## Versions\n\n{tables.markdown(rows)}" if rows else ""


def _fenced(title: str, text: str, language: str) -> str:
    if not text:
        return ""
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall(r"`+", text)), default=0))
    return f"## {title}\n\n{fence}{language}\n{text}\n{fence}\n"


def _inline(text: str) -> str:
    """Text that stays text in Markdown."""
    return re.sub(r"([\\`*_\[\]<>])", r"\\\1", words.safe(text).replace("\n", " "))
