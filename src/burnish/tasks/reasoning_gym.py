"""reasoning-gym's whole catalogue as tasks (extra `env`), scored by its own scorers."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import io
import itertools
import json
import re
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from pydantic import Field

from burnish.records import Score
from burnish.runs.config import Config
from burnish.runs.errors import UserError, did_you_mean
from burnish.runs.seeds import seed_for
from burnish.tasks.safe_answer import is_arithmetic, is_literal
from burnish.tasks.task import Problem, Split, digest
from burnish.tasks.worker import Worker

TEST_SHARE = 4
"""One in so many problems is held out: more than of our own tasks, because some data sets need a second for each problem."""

CHUNK = 200
"""Problems of one data set object: some make all of them when they are built."""

EVALS = frozenset({"binary_matrix", "n_queens", "spiral_matrix", "string_insertion"})
"""Scorers that call `eval` on the answer: they see literals only."""

SYMPY = frozenset({"countdown", "intermediate_integration", "polynomial_multiplication", "puzzle24", "simple_integration"})
"""Scorers that hand the answer to sympy: they see plain arithmetic only, in a process of their own with a clock."""

NOTES = {
    "codeio": "runs programs that come with reasoning-gym while it makes problems",
    "composite": "needs config.datasets, a list of {name, weight, config}",
    "knight_swap": "about 0.7 s for each problem",
    "list_functions": "draws from Python's global generator; the adapter seeds it for each problem and puts it back",
}


class ReasoningGym(Config):
    """One data set of reasoning-gym.

    The prompt is its question. An answer inside `<answer>...</answer>` is taken out; without the tags the whole completion is the answer.
    reward = reasoning-gym's score, success = 1 where the score is at least `success_at`.
    """

    name: ClassVar[str] = "reasoning_gym"

    dataset: str = Field(description="a name of reasoning-gym's catalogue")
    config: dict[str, Any] = Field(default_factory=dict, description="fields of that data set's own config")
    difficulty: int | None = Field(default=None, description="level of its curriculum, 1 and up; unset: its defaults")
    success_at: float = Field(default=1.0, description="the score from which an answer is a success")
    seconds: float = Field(default=5.0, description="time limit of a scorer that uses sympy")

    def validate(self) -> None:  # type: ignore[override]
        """Raises UserError for a missing extra, an unknown data set, and a config or difficulty it does not take."""
        known = catalogue()
        if self.dataset not in known:
            raise UserError(f"reasoning_gym: dataset {self.dataset!r} is unknown; {did_you_mean(self.dataset, known)}")
        if self.difficulty is not None and self.difficulty < 1:
            raise UserError(f"reasoning_gym: difficulty is {self.difficulty}; it must be at least 1")
        if not 0 < self.success_at <= 1:
            raise UserError(f"reasoning_gym: success_at is {self.success_at}; it must be in (0, 1]")
        reserved = {"seed", "size"} & set(self.config)
        if reserved:
            raise UserError(f"reasoning_gym: config.{min(reserved)} is set by `items`; leave it out")
        self._dataset(0)

    def items(self, n: int, seed: int, split: Split = "train") -> list[Problem]:
        """n different problems; the split is a hash of the question, so train and test never meet. Raises UserError where too few exist."""
        self.validate()
        if split not in ("train", "test"):
            raise UserError(f"reasoning_gym: split is {split!r}; it must be 'train' or 'test'")
        found: dict[str, Problem] = {}
        misses = 0
        for entry in self._entries(split, seed):
            if len(found) == n:
                break
            name = digest(self.dataset, entry["question"])
            fits = (int(name, 16) % TEST_SHARE == 0) == (split == "test")
            if fits and name not in found:
                columns = {"dataset": self.dataset, "entry": entry}
                found[name] = Problem(f"{self.dataset}-{name}", entry["question"], reference(entry), columns)
                misses = 0
                continue
            misses += 1
            if misses > 500 + 20 * TEST_SHARE:
                short = f"only {len(found)} of {n} different {split} problems"
                raise UserError(f"reasoning_gym: {self.dataset} gave {short}; ask for fewer, or raise difficulty")
        return list(found.values())

    def _entries(self, split: Split, seed: int) -> Iterator[dict[str, Any]]:
        for chunk in itertools.count():
            dataset = self._dataset(seed_for("reasoning_gym", self.dataset, split, seed, chunk) % 2**31)
            for index in range(CHUNK):
                try:
                    entry = _entry(dataset, index)
                except IndexError:  # it holds fewer
                    break
                yield entry

    def score(self, completion: str, columns: Mapping[str, Any]) -> Score:
        """reasoning-gym's own score of the completion. columns: `entry`, as `items` made it. A scorer that breaks on an answer gives 0."""
        entry = columns["entry"]
        value, error = self._score(answer_of(completion), entry)
        return Score(reward=value, success=float(value >= self.success_at), parts={"score": value, "scorer_error": float(error)})

    def _score(self, answer: str, entry: dict[str, Any]) -> tuple[float, bool]:
        """(score, whether the scorer broke, was refused or ran out of time)."""
        source = entry["metadata"].get("source_dataset", self.dataset)
        if source in EVALS and not is_literal(answer):
            return float(answer.strip() in _texts(entry)), False  # all that such a scorer gives for a text it cannot eval
        if source in SYMPY:
            if not is_arithmetic(answer):
                return 0.0, False
            config = dict(self.config) if self.difficulty is None and source == self.dataset else {}
            asked = {"dataset": source, "config": config, "answer": answer, "entry": entry}
            found = worker(self.seconds).ask(asked)
            return (0.0, True) if found is None else (float(found["score"]), "error" in found)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return float(self._dataset(0).score_answer(answer, entry)), False
        except Exception:  # whatever the answer made it raise
            return 0.0, True

    def _dataset(self, seed: int) -> Any:
        return _made(self.dataset, json.dumps(self.config, sort_keys=True), self.difficulty, seed)


def catalogue() -> list[str]:
    """Every data set's name, sorted. Raises UserError with the remedy where reasoning-gym is not installed."""
    if importlib.util.find_spec("reasoning_gym") is None:
        raise UserError("these tasks need reasoning-gym, which is not installed: pip install 'burnish[env]'")
    from reasoning_gym.factory import DATASETS

    return sorted(DATASETS)


def answer_of(completion: str) -> str:
    """What stands in the last `<answer>` tags, else all of it, stripped."""
    found = re.findall(r"<answer>(.*?)</answer>", completion, flags=re.DOTALL)
    return (found[-1] if found else completion).strip()


def reference(entry: Mapping[str, Any]) -> str:
    """A right answer where the entry holds one, else ""."""
    metadata = entry["metadata"]
    for value in (entry["answer"], metadata.get("example_correct_answer"), metadata.get("example_answer")):
        if isinstance(value, str):
            return value
    coloring = metadata.get("possible_answer")
    return json.dumps({str(node): color for node, color in coloring.items()}) if isinstance(coloring, dict) else ""


def _texts(entry: Mapping[str, Any]) -> list[str]:
    """The answers that count as they stand."""
    return [str(text).strip() for text in (entry["answer"], *entry["metadata"].get("valid_answers", ()))]


def _entry(dataset: Any, index: int) -> dict[str, Any]:
    """One problem. Python's and numpy's global generators are seeded for it and put back: a few data sets draw from them."""
    import random

    import numpy as np

    python, numpy = random.getstate(), np.random.get_state()
    random.seed(dataset.seed + index)
    np.random.seed((dataset.seed + index) % 2**32)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):  # one prints dots while it searches
            warnings.simplefilter("ignore")
            return dict(dataset[index])
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


@functools.lru_cache(maxsize=64)
def _made(name: str, config: str, difficulty: int | None, seed: int) -> Any:
    """A data set of CHUNK problems. Raises UserError where its config is refused."""
    import reasoning_gym
    from reasoning_gym.factory import CURRICULA, DATASETS, create_curriculum

    fields: dict[str, Any] = {"size": CHUNK, "seed": seed, **json.loads(config)}
    cls, config_cls = DATASETS[name]
    known = [field for field in getattr(config_cls, "__dataclass_fields__", {}) if field not in ("seed", "size")]
    for field in json.loads(config):
        if field not in known:
            raise UserError(f"reasoning_gym: {name} has no config field {field!r}; {did_you_mean(field, known)}")
    if name == "composite":
        from reasoning_gym.composite import DatasetSpec

        fields["datasets"] = [DatasetSpec(**{"weight": 1.0, "config": {}, **spec}) for spec in fields.get("datasets", [])]
    try:
        if difficulty is None:
            return reasoning_gym.create_dataset(name, **fields)
        if name not in CURRICULA:
            raise UserError(f"reasoning_gym: {name} has no curriculum, so no difficulty; set its config fields instead")
        curriculum = create_curriculum(name)
        for attribute, definition in curriculum.attributes.items():
            curriculum.set_attr_level(attribute, min(difficulty - 1, len(definition.levels) - 1))
        made = curriculum.generate_configuration(fields)
        if hasattr(made, "validate"):
            made.validate()
        return cls(config=made)
    except UserError:
        raise
    except (AssertionError, TypeError, ValueError) as error:
        raise UserError(f"reasoning_gym: {name} refuses its config: {' '.join(str(error).split()) or type(error).__name__}") from error


@functools.lru_cache(maxsize=4)
def worker(seconds: float) -> Worker:
    """One scoring process for each time limit."""
    return Worker("burnish.tasks.reasoning_worker", seconds)


part = ReasoningGym
