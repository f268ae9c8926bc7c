"""Judges: what grades one item of a checklist on one text. A chat model, a policy in this process, or a Python function.

A judge of one's own is anything with `id` (text), `grade(questions) -> list[Grade | Failed]` and `cached` (False: its grades are not
remembered).
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from burnish.chat.make import make_chat
from burnish.chat.messages import Message, text_of
from burnish.data.ace_rl.checklist import Requirement
from burnish.models.policy import Policy
from burnish.rl.rewards.ace_rl.grades import GRADES, Grade, grade_of, read_grade
from burnish.rl.rewards.ace_rl.policy_chat import FrozenChat, load_frozen
from burnish.rl.rewards.judging import Bench, prompt
from burnish.runs.errors import UserError
from burnish.runs.parts import find, make

PACKAGE = "burnish.chat"

TASK = """You check whether a text does one thing that was wanted of it. Grade only that one thing, by what the text does and not by what
it says that it does: a text that announces a part, claims to meet a demand, or repeats the demand has not met it by that.

The grades: "fully met", "partially met", "not met". Answer with the grade's name alone on the last line."""
TEMPLATE = "The task that was given to the writer:\n\n{instruction}\n\nThe text to be graded:\n\n{text}"
LAST = "\n\nThe one thing to check ({dimension}): {requirement}"
AGAIN = "\n\nAnswer with nothing but one of: fully met, partially met, not met."


@dataclasses.dataclass(frozen=True)
class Question:
    """One item, asked of one text."""

    text: str
    item: Requirement
    instruction: str


@dataclasses.dataclass(frozen=True)
class Failed:
    """There is no grade, and why."""

    why: str


class GradeJudge(Protocol):
    """What the reward needs of a judge."""

    id: str
    cached: bool

    def grade(self, questions: Sequence[Question], again: bool = False) -> list[Grade | Failed]:
        """A grade for each question, or why there is none; all are asked at once. again: it is the second try."""

    def metrics(self) -> dict[str, float]:
        """Since the last call."""


class ChatJudge:
    """A chat model, asked item by item, deterministically (temperature 0 unless `options` say otherwise).

    All that the items of one text share (task, instruction, text) stands before the item, so that servers with a prefix cache read a text
    once. Instruction and text stand in blocks that their content cannot leave (`judging.prompt`).
    context: tokens that the judge can read, where the chat model does not say: a conversation that is longer by the estimate of
    `characters_per_token`, with max_new_tokens of `options`, is refused (UserError), never cut.
    """

    cached = True

    def __init__(
        self,
        chat: Any,
        where: str,
        options: Mapping[str, Any] | None = None,
        timeout: float | None = None,
        context: int | None = None,
        characters_per_token: float = 3.0,
        id: str | None = None,
    ) -> None:
        self.options = {"temperature": 0.0, **(options or {})}
        self.bench = Bench(chat, where, self.options, timeout, give_up_after=2**62, cache=0)
        self.where, self.context, self.characters_per_token = where, context, characters_per_token
        self._id = id

    @property
    def id(self) -> str:
        """The model with a hash of the prompt and options: another prompt grades anew."""
        if self._id is not None:
            return self._id
        chat = self.bench.chat
        name = getattr(chat, "id", None) or ":".join(
            str(part) for part in (type(chat).__name__, getattr(chat, "model", None), getattr(chat, "base_url", None)) if part
        )
        return f"{name}#{_mark(TASK + TEMPLATE + LAST + json.dumps(self.options, sort_keys=True, default=str))}"

    def grade(self, questions: Sequence[Question], again: bool = False) -> list[Grade | Failed]:
        """See `GradeJudge`. Raises UserError for wrong settings and for a text that is longer than the judge's context."""
        found = self.bench.ask([self._checked(conversation(one, self.where, again)) for one in questions], _number)
        return [Failed(one) if isinstance(one, str) else GRADES[round(one)] for one in found]

    def _checked(self, messages: list[Message]) -> list[Message]:
        if self.context is not None:
            need = sum(len(text_of(one)) for one in messages) / self.characters_per_token + float(self.options.get("max_new_tokens") or 0)
            if need > self.context:
                raise UserError(
                    f"{self.where}: text and instruction need about {need:.0f} tokens and the judge reads {self.context}; take one with a "
                    "longer context or shorten rl.max_new_tokens: a part of a text is never judged for the whole"
                )
        return messages

    def metrics(self) -> dict[str, float]:
        """Calls, tokens and cost since the last call."""
        found = self.bench.metrics("")
        return {name.lstrip("/"): value for name, value in found.items() if name not in ("/asked", "/repeated", "/failed")}


def conversation(question: Question, where: str, again: bool = False) -> list[Message]:
    """What a chat model is shown for one item: the same for all items of a text but for its end."""
    messages = prompt(TEMPLATE, TASK, {"instruction": question.instruction, "text": question.text}, where)
    last = LAST.format(dimension=_plain(question.item.dimension, where), requirement=_plain(question.item.text, where))
    messages[-1]["content"] += last + (AGAIN if again else "")
    return messages


def _plain(text: str, where: str) -> str:
    """In one line, marks of chat templates broken up as `prompt` does it."""
    shown = prompt("{text}", "", {"text": " ".join(text.split())}, where)[-1]["content"]
    return "\n".join(str(shown).split("\n")[1:-1])


def _number(answer: str) -> float:
    return float(GRADES.index(read_grade(answer)))


class FunctionJudge:
    """A Python function (item, text, instruction) -> grade: its name or 1, 0.5, 0. None, or an exception, is a failure."""

    cached = True

    def __init__(self, function: Callable[[Requirement, str, str], Any], id: str | None = None) -> None:
        self.function, self.id = function, id or _name_of(function)

    def grade(self, questions: Sequence[Question], again: bool = False) -> list[Grade | Failed]:
        """See `GradeJudge`."""
        return [self._one(question) for question in questions]

    def _one(self, question: Question) -> Grade | Failed:
        try:
            said = self.function(question.item, question.text, question.instruction)
            return Failed("the judge gave None") if said is None else grade_of(said)
        except UserError:
            raise
        except Exception as error:
            return Failed(f"the judge raised {type(error).__name__}: {' '.join(str(error).split())[:200]}")

    def metrics(self) -> dict[str, float]:
        """None of its own."""
        return {}


def _name_of(function: Any) -> str:
    """Module and name, with the arguments that are bound and a hash of the source: a function that was changed grades anew."""
    bound = ""
    while isinstance(function, functools.partial):
        bound += json.dumps([function.args, function.keywords], sort_keys=True, default=str)
        function = function.func
    inner = function if inspect.isroutine(function) else type(function)
    with contextlib.suppress(OSError, TypeError):  # no source to be had
        bound += inspect.getsource(inner)
    return f"{getattr(inner, '__module__', '')}:{getattr(inner, '__qualname__', repr(inner))}#{_mark(bound)}"


def _mark(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=6).hexdigest()


def make_judge(
    spec: Any,
    where: str,
    options: Mapping[str, Any] | None = None,
    timeout: float | None = None,
    context: int | None = None,
    id: str | None = None,
) -> Any:
    """The judge that `spec` describes.

    A chat model or its spec ({"name": "http", ...}, "file.py:Chat"); a Policy or {"policy": folder or hub id, "adapter": ..., "dtype": ...}
    for one in this process; a function or its name ("file.py:grade", or {"name": "file.py:grade", argument: value}); or a judge.
    Raises UserError.
    """
    if spec is None:
        raise UserError(
            f"{where}: judge is not set; give {{name: http, base_url: ..., model: ...}}, {{policy: FOLDER}}, self, or file.py:function"
        )
    if hasattr(spec, "grade") and hasattr(spec, "id"):
        return spec
    if isinstance(spec, Mapping) and "policy" in spec:
        spec = load_frozen(spec, f"{where}: judge")
    if isinstance(spec, Policy):
        spec = FrozenChat(spec)
    if isinstance(spec, (str, Mapping)):
        given = {"name": spec} if isinstance(spec, str) else dict(spec)
        part = find(PACKAGE, str(given.get("name", "")))
        if callable(getattr(part, "complete", None)):
            spec = make_chat(given, f"{where}: judge")
        else:
            spec = part() if inspect.isclass(part) and len(given) == 1 else make(PACKAGE, given)
    if callable(getattr(spec, "complete", None)):
        return ChatJudge(spec, where, options, timeout, context, id=id)
    if callable(spec):
        return FunctionJudge(spec, id)
    raise UserError(f"{where}: judge {spec!r} is neither a chat model nor a function (item, text, instruction) -> grade")
