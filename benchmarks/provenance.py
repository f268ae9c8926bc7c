"""Where a figure comes from: versions, processor, threads, date."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import pathlib
import platform
import sys
from typing import Any

import torch

PACKAGES = ("burnish", "torch", "transformers", "trl", "accelerate", "datasets", "numpy")


def provenance() -> dict[str, Any]:
    """Plain JSON values."""
    return {
        "date": datetime.date.today().isoformat(),
        "command": " ".join([pathlib.Path(sys.argv[0]).name, *sys.argv[1:]]).replace(f"{pathlib.Path.cwd()}{os.sep}", ""),
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
        "processor": _processor(),
        "processors": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch_cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "load_at_start": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    info = pathlib.Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor())
