"""What a run depends on besides its config: versions, commit, threads, devices."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import burnish

LIBRARIES = ("torch", "transformers", "accelerate", "peft", "datasets", "safetensors", "numpy", "pydantic")


def describe() -> dict[str, Any]:
    """JSON values for run.json and `burnish info`."""
    import torch

    return {
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": {"burnish": burnish.__version__, "python": platform.python_version(), **_versions()},
        "commit": commit(),
        "platform": platform.platform(),
        "threads": torch.get_num_threads(),
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "devices": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] + ["mps"] * torch.backends.mps.is_available()
        or ["cpu"],
        "executable": sys.executable,
    }


def _versions() -> dict[str, str]:
    out = {}
    for name in LIBRARIES:
        try:
            out[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return out


def commit() -> str | None:
    """The git commit of the source tree burnish runs from (with "+changes" where it has any), or None outside a checkout."""
    root = Path(burnish.__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        found = subprocess.run(["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10, check=True)
        changed = subprocess.run(["git", "-C", str(root), "status", "--porcelain", "-uno"], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip() + ("+changes" if changed.stdout.strip() else "")
