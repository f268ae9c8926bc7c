"""Chat models from a config: {"name": "http", "base_url": ..., "model": ...}, "file.py:name", or an object that is one already."""

from __future__ import annotations

import inspect
from typing import Any

from burnish.chat.model import ChatModel
from burnish.runs.errors import UserError
from burnish.runs.parts import make

PACKAGE = "burnish.chat"


def make_chat(spec: Any, where: str = "chat") -> ChatModel:
    """The ChatModel that `spec` describes: http, scripted, the user's own class or object ("file.py:name"), or an object.

    where: the field, for errors. Raises UserError for what is no chat model.
    """
    if spec is None:
        raise UserError(f"{where} is not set; give a chat model, e.g. {{name: http, base_url: http://127.0.0.1:8000/v1, model: ...}}")
    made: Any = make(PACKAGE, spec)
    if inspect.isclass(made):
        made = made()
    if not callable(getattr(made, "complete", None)) or not inspect.iscoroutinefunction(made.complete):
        raise UserError(f"{where}: {type(made).__name__} is no chat model; it needs `async def complete(messages, tools=None, **options)`")
    return made
