"""YAML as configs need it: `1e-4` is a number, a date stays text, a repeated key is refused, and every key knows its line."""

from __future__ import annotations

import re
from typing import Any

import yaml

from burnish.runs.errors import UserError

Key = str | int


class _Loader(yaml.SafeLoader):
    """YAML 1.1 as PyYAML reads it, but floats may lack the point, dates are text, and only true/false are booleans."""


_CHANGED = tuple(f"tag:yaml.org,2002:{name}" for name in ("float", "timestamp", "bool", "int", "value"))  # value: a lone = is text
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in found if tag not in _CHANGED]
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_FLOAT = (
    r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?|\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?|[0-9][0-9_]*[eE][-+]?[0-9]+"
    r"|\.(?:inf|Inf|INF))|\.(?:nan|NaN|NAN)"
)
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(rf"^(?:{_FLOAT})$"), list("-+0123456789."))
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?(?:0|[1-9][0-9_]*)$"), list("-+0123456789"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))


def parse_yaml(text: str, name: str) -> tuple[Any, dict[tuple[Key, ...], int]]:
    """The value, and the line (from 1) of each key by its path. Raises UserError naming `name` and the line."""
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None, {}
        lines: dict[tuple[Key, ...], int] = {}
        _collect(node, (), lines, name)
        return loader.construct_document(node), lines
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{name}, line {mark.line + 1}" if mark else name
        raise UserError(f"{place}: broken YAML: {error.problem or error.context}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{name}: broken YAML: {' '.join(str(error).split())}") from None
    finally:
        loader.dispose()


def parse_scalar(text: str, name: str) -> Any:
    """The value of one flag: a YAML scalar, or a flow list or map; a text that YAML cannot read stays text."""
    if not text.strip():
        return text
    try:
        return parse_yaml(text, name)[0]
    except UserError:
        if text.lstrip()[0] in "[{":
            raise
        return text


def _collect(node: yaml.Node, path: tuple[Key, ...], lines: dict[tuple[Key, ...], int], name: str) -> None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here = (*path, str(key.value))
            line = key.start_mark.line + 1
            if here in lines and key.tag != "tag:yaml.org,2002:merge":
                label = ".".join(map(str, here))
                raise UserError(f"{name}, line {line}: key {label!r} is there already, in line {lines[here]}; remove one")
            lines[here] = line
            _collect(value, here, lines, name)
    elif isinstance(node, yaml.SequenceNode):
        for position, value in enumerate(node.value):
            lines[(*path, position)] = value.start_mark.line + 1
            _collect(value, (*path, position), lines, name)
