"""Panel: a judge with its memory and its account of failures. Each question is asked once, a failed one once more, and then it counts."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from burnish.rl.rewards.ace_rl.cache import GradeCache, Key, key_of
from burnish.rl.rewards.ace_rl.grades import Grade
from burnish.rl.rewards.ace_rl.judges import Failed, Question
from burnish.runs.errors import UserError


class Panel:
    """judge: see `judges`. cache: what is known already. max_failures: the share of the last `window` questions that may fail before the
    run is stopped with a message; the rule acts once `least` were asked.
    """

    def __init__(self, judge: Any, cache: GradeCache, where: str, max_failures: float = 0.02, window: int = 1000, least: int = 100) -> None:
        if not 0 <= max_failures <= 1:
            raise UserError(f"{where}: max_failures is {max_failures}; it must be a share between 0 and 1")
        self.judge, self.cache, self.where = judge, cache, where
        self.max_failures, self.window, self.least = max_failures, window, least
        self.recent: deque[tuple[int, int]] = deque()
        self.counts = {"asked": 0, "remembered": 0, "retried": 0, "failed": 0}
        self.totals = dict(self.counts)
        self.last = ""

    def grade(self, questions: Sequence[Question]) -> list[Grade | Failed]:
        """A grade for each question, in order, or why there is none. Raises UserError where too many fail."""
        keys = [key_of(one.text, one.item, self.judge.id if self.judge.cached else "live", one.instruction) for one in questions]
        found: dict[Key, Grade | Failed] = {}
        if self.judge.cached:
            found = {key: grade for key in keys if (grade := self.cache.get(key)) is not None}
        fresh = {key: one for key, one in zip(keys, questions) if key not in found}
        remembered = len(keys) - len(fresh)
        found |= self._ask(fresh)
        good = {key: one for key in fresh if not isinstance(one := found[key], Failed)}
        if self.judge.cached:
            self.cache.put(good)
        self._count("remembered", remembered)
        self._account(len(fresh), len(fresh) - len(good))
        return [found[key] for key in keys]

    def _ask(self, fresh: Mapping[Key, Question]) -> dict[Key, Grade | Failed]:
        found: dict[Key, Grade | Failed] = dict(zip(fresh, self.judge.grade(list(fresh.values())))) if fresh else {}
        failed = [key for key, one in found.items() if isinstance(one, Failed)]
        if failed:
            self._count("retried", len(failed))
            found |= dict(zip(failed, self.judge.grade([fresh[key] for key in failed], again=True)))
        self.last = next((one.why for one in found.values() if isinstance(one, Failed)), self.last)
        return found

    def _count(self, name: str, n: int) -> None:
        self.counts[name] += n
        self.totals[name] += n

    def _account(self, asked: int, failed: int) -> None:
        self._count("asked", asked)
        self._count("failed", failed)
        if asked:
            self.recent.append((asked, failed))
        while len(self.recent) > 1 and sum(one for one, _ in self.recent) - self.recent[0][0] >= self.window:
            self.recent.popleft()
        self.check(self.least)

    def check(self, least: int = 1) -> None:
        """Raises UserError where more than the allowed share of the last questions failed, once `least` were asked."""
        asked, failed = sum(one for one, _ in self.recent), sum(one for _, one in self.recent)
        if asked >= max(least, 1) and failed > self.max_failures * asked:
            raise UserError(
                f"{self.where}: {failed} of the last {asked} grades failed twice ({failed / asked:.1%}; at most {self.max_failures:.1%}); "
                f"the last: {self.last}; mend the judge or raise max_failures"
            )

    def metrics(self) -> dict[str, float]:
        """Since the last call."""
        out = {**{name: float(value) for name, value in self.counts.items()}, **self.judge.metrics()}
        self.counts = dict.fromkeys(self.counts, 0)
        return out

    def state_dict(self) -> dict[str, Any]:
        """The account of failures, and the grades where no file keeps them."""
        return {"recent": [list(one) for one in self.recent], "cache": self.cache.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self.recent = deque((int(asked), int(failed)) for asked, failed in state["recent"])
        self.cache.load_state_dict(state["cache"])
