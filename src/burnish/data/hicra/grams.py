"""Grams: the strategic grams with their clusters and document frequencies, and their JSON file."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from burnish.data.hicra.words import Matcher, phrase_words
from burnish.runs import atomic
from burnish.runs.errors import UserError

FORMAT = "strategic grams"


@dataclasses.dataclass(frozen=True)
class Cluster:
    """Paraphrases of one strategy.

    grams: phrase -> number of solutions that contain it (0: not known). cdf: solutions with at least one of them (None: not known).
    repeats: how often a gram of the cluster occurs in a solution that contains it, on average (None: not known).
    """

    grams: Mapping[str, int]
    cdf: int | None = None
    repeats: float | None = None


@dataclasses.dataclass(frozen=True)
class Grams:
    """A fixed set of strategic grams. clusters: by falling CDF where it comes from `extract`. about: how they were found (JSON values).

    Raises UserError where there is no gram, a gram has no word, or one is named twice.
    """

    clusters: tuple[Cluster, ...]
    about: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    where: str = "strategic grams"

    def __post_init__(self) -> None:
        seen: dict[tuple[str, ...], str] = {}
        for gram in self.grams:
            words = phrase_words(gram)
            if not words:
                raise UserError(f"{self.where}: the gram {gram!r} holds no word; leave it out")
            if words in seen:
                raise UserError(f"{self.where}: the gram {gram!r} is there twice (as {seen[words]!r}); leave one out")
            seen[words] = gram
        if not seen:
            raise UserError(f"{self.where} hold no gram; extract some with `burnish method hicra extract`")

    @functools.cached_property
    def grams(self) -> tuple[str, ...]:
        """All phrases, cluster by cluster."""
        return tuple(gram for cluster in self.clusters for gram in cluster.grams)

    @functools.cached_property
    def cluster_of(self) -> tuple[int, ...]:
        """The cluster's number of each gram."""
        return tuple(number for number, cluster in enumerate(self.clusters) for _ in cluster.grams)

    @functools.cached_property
    def matcher(self) -> Matcher:
        """Compiled once."""
        return Matcher(self.grams)

    @property
    def fingerprint(self) -> str:
        """16 hex digits of the phrases and which of them share a cluster: equal for equal sets, whatever their order."""
        text = json.dumps(sorted(sorted(" ".join(phrase_words(gram)) for gram in cluster.grams) for cluster in self.clusters))
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    @classmethod
    def of(cls, phrases: Sequence[str] | Sequence[Sequence[str]]) -> Grams:
        """From phrases of your own: each a cluster, or each a list of paraphrases."""
        groups = [[entry] if isinstance(entry, str) else list(entry) for entry in phrases]
        return cls(tuple(Cluster(dict.fromkeys(group, 0)) for group in groups))

    def save(self, path: str | Path) -> None:
        """Writes the JSON file, whole or not at all."""
        clusters = [{"cdf": one.cdf, "repeats": one.repeats, "grams": dict(one.grams)} for one in self.clusters]
        document = {"format": FORMAT, "version": 1, "about": dict(self.about), "clusters": clusters}
        atomic.write_text(Path(path), json.dumps(document, indent=1, ensure_ascii=False) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> Grams:
        """Reads what `save` wrote, or a JSON list of phrases (each a cluster of its own) or of lists of paraphrases. Raises UserError."""
        try:
            data = json.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise UserError(f"cannot read the grams file {path}: {error.strerror}; make one with `burnish method hicra extract`") from None
        except ValueError as error:
            raise UserError(f"{path} is not JSON ({error}); make it with `burnish method hicra extract`") from None
        where = f"grams file {path}"
        if isinstance(data, list):
            groups = [[entry] if isinstance(entry, str) else entry for entry in data]
            return cls(tuple(_cluster({"grams": group}, f"{where}, entry {n}") for n, group in enumerate(groups, 1)), where=where)
        if not isinstance(data, dict) or not isinstance(data.get("clusters"), list):
            raise UserError(f"{where}: it must be a list of phrases, or an object with the list 'clusters'")
        about = data.get("about", {})
        clusters = tuple(_cluster(entry, f"{where}, cluster {n}") for n, entry in enumerate(data["clusters"], 1))
        return cls(clusters, about if isinstance(about, dict) else {}, where)


def _cluster(entry: Any, where: str) -> Cluster:
    grams = entry.get("grams") if isinstance(entry, dict) else None
    if isinstance(grams, list) and all(isinstance(gram, str) for gram in grams):
        grams = dict.fromkeys(grams, 0)
    if not isinstance(grams, dict) or not all(isinstance(count, int) for count in grams.values()):
        raise UserError(f"{where}: 'grams' must be a list of phrases, or phrases with the number of solutions that contain them")
    cdf, repeats = entry.get("cdf"), entry.get("repeats")
    return Cluster(grams, cdf if isinstance(cdf, int) else None, float(repeats) if isinstance(repeats, int | float) else None)


def grams_of(given: Any) -> Grams:
    """Grams from an object, a file's path, or a list of phrases. Raises UserError."""
    if isinstance(given, Grams):
        return given
    if isinstance(given, str | Path):
        return Grams.load(given)
    if isinstance(given, list | tuple):
        return Grams.of(given)
    raise UserError(f"grams: {given!r} is neither a grams file nor a list of phrases; make a file with `burnish method hicra extract`")
