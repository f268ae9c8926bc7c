"""Which claims there are: the packages and modules of `burnish.claims`, and the user's own files."""

from __future__ import annotations

import importlib
import pkgutil

from burnish.claims.harness.claim import Claim
from burnish.runs import parts
from burnish.runs.errors import UserError, did_you_mean

PACKAGE = "burnish.claims"


def slugs() -> list[str]:
    """Every system with claims, as typed: `rl-catalogue`."""
    package = importlib.import_module(PACKAGE)
    names = (info.name for info in pkgutil.iter_modules(package.__path__) if not info.name.startswith("_"))
    return sorted(name.replace("_", "-") for name in names if name != "harness")


def claims_of(source: str) -> tuple[Claim, ...]:
    """The claims of a slug or of a Python file that defines `claims`. Raises UserError naming the nearest."""
    if source.endswith(".py"):
        module = parts.load_file(source)
    else:
        known = slugs()
        slug = source.replace("_", "-")
        if slug not in known:
            raise UserError(f"there are no claims of {source!r}; {did_you_mean(slug, known)}")
        module = importlib.import_module(f"{PACKAGE}.{slug.replace('-', '_')}")
    found = getattr(module, "claims", None)
    if not isinstance(found, tuple) or not all(isinstance(one, Claim) for one in found):
        raise UserError(f"{source} defines no tuple `claims` of Claims; see burnish.claims.harness.claim")
    return found


def split(spec: str) -> tuple[str, str | None]:
    """(source, number): "scalerl.1" -> ("scalerl", "1"); a file has no number."""
    source, dot, number = spec.rpartition(".")
    return (source, number) if dot and number.isdigit() else (spec, None)


def select(spec: str) -> tuple[str, tuple[Claim, ...]]:
    """(source, claims) for "slug", "slug.2" or "file.py". Raises UserError."""
    source, number = split(spec)
    found = claims_of(source)
    if number is None:
        return source, found
    chosen = tuple(one for one in found if one.id.rpartition(".")[2] == number)
    if not chosen:
        raise UserError(f"{source} has no claim {spec!r}; it has {', '.join(one.id for one in found)}")
    return source, chosen
