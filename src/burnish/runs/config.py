"""One configuration class for Python, YAML and flags.

`load_config` checks strictly (a string is no number, `true` is no integer) and every refusal is one line that names the
field, its value, what was wanted, and the file and line (or the flag) it came from.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, ClassVar, Literal, TypeVar, Union, get_args, get_origin

import pydantic
import yaml

from burnish.runs.errors import UserError, did_you_mean
from burnish.runs.yamlio import Key, parse_scalar, parse_yaml

FREE_FIELDS = frozenset({"save_total_limit", "trackers", "report_to", "progress", "resume"})
"""Fields (by their last name) that may differ between a run and its resumption: none of them touches a weight."""


class Config(pydantic.BaseModel):
    """Base of every configuration: frozen, unknown keys refused. Sub-configs are fields whose type is a Config.

    Fields named in `free_fields` may change when a run is resumed.
    """

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)
    free_fields: ClassVar[frozenset[str]] = FREE_FIELDS

    @classmethod
    def filled(cls, data: Mapping[str, Any]) -> Mapping[str, Any]:
        """What `load_config` and `build` check in place of the data: a place for values that follow from others (a recipe's)."""
        return data


C = TypeVar("C", bound=Config)


def load_config(cls: type[C], path: str | Path | None = None, overrides: Sequence[str] = (), also: Sequence[str] = ()) -> C:
    """A `cls` from a YAML file (optional) and flags, which win over the file.

    overrides: words as on a command line: `--a.b value`, `--a.b=value`, or a bare `--flag` for true.
    Dashes inside a name are read as underscores where the field is spelled so. Values are YAML scalars (or flow lists and maps);
    a text field takes the word as it is. also: other words that a flag may have been meant for, named in the error about an unknown one.
    Raises UserError for anything that does not fit.
    """
    data: dict[str, Any] = {}
    lines: dict[tuple[Key, ...], int] = {}
    if path is not None:
        data, lines = _read_file(Path(path))
    words = _split_flags(overrides)
    for key in words:
        if _spelled(cls, key[:1])[0] not in cls.model_fields and also:
            raise UserError(f"flag --{'.'.join(key)}: unknown key {key[0]!r}; {_meant(cls, key[0], [*cls.model_fields, *also])}")
    for key, text in words.items():
        _put(data, key, True if text is None else parse_scalar(text, "--" + ".".join(key)), cls)
    raw = {_spelled(cls, key): text for key, text in words.items() if text is not None}

    def where(loc: tuple[Key, ...]) -> str:
        flag = next((key for key in raw if loc[: len(key)] == key), None)
        if flag or loc in {_spelled(cls, key) for key in words}:
            return "flag --" + ".".join(map(str, flag or loc))
        line = next((lines[loc[:n]] for n in range(len(loc), 0, -1) if loc[:n] in lines), None)
        return "the flags" if path is None else str(path) if line is None else f"{path}, line {line}"

    return build(cls, data, where, raw)


def build(
    cls: type[C],
    data: Mapping[str, Any],
    where: str | Callable[[tuple[Key, ...]], str] = "",
    raw: Mapping[tuple[Key, ...], str] | None = None,
) -> C:
    """A `cls` from plain data, checked strictly; raises UserError in one line. `where` names the origin of a field.

    raw: the unparsed words of flags, by field; one takes the place of its parsed value where a text was wanted.
    """
    place = where if callable(where) else (lambda loc: where)
    try:
        return _validate(cls, data)
    except pydantic.ValidationError as error:
        texts = [e["loc"] for e in error.errors(include_url=False) if e["type"] == "string_type"]
        again = [key for key in (raw or {}) if any(loc[: len(key)] == key for loc in texts)]
        if not again:
            raise _explain(cls, error, place) from None
    fixed = json.loads(json.dumps(data))
    for key in again:
        _put(fixed, key, (raw or {})[key], cls)
    try:
        return _validate(cls, fixed)
    except pydantic.ValidationError as error:
        raise _explain(cls, error, place) from None


def _validate(cls: type[C], data: Mapping[str, Any]) -> C:
    """Strictly, as JSON where the data is JSON (so that a list may become a tuple); Python objects are checked as they are."""
    data = cls.filled(data)
    try:
        text = json.dumps(data)
    except TypeError:
        return cls.model_validate(dict(data))
    return cls.model_validate_json(text, strict=True)


def _read_file(path: Path) -> tuple[dict[str, Any], dict[tuple[Key, ...], int]]:
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    except OSError as error:
        raise UserError(f"cannot read the config {path}: {error.strerror}; check the path") from None
    value, lines = parse_yaml(text, str(path))
    if value is None:
        return {}, {}
    if not isinstance(value, dict):
        raise UserError(f"{path}: a config is a mapping of fields to values, not a {type(value).__name__}")
    return value, lines


def _split_flags(words: Sequence[str]) -> dict[tuple[str, ...], str | None]:
    out: dict[tuple[str, ...], str | None] = {}
    position = 0
    while position < len(words):
        word = words[position]
        position += 1
        if not word.startswith("--") or len(word) == 2:
            raise UserError(f"{word!r} is not a flag; write --field value or --field=value")
        name, equals, text = word[2:].partition("=")
        if not equals and position < len(words) and not words[position].startswith("--"):
            text, equals = words[position], "="
            position += 1
        key = tuple(name.split("."))
        if "" in key:
            raise UserError(f"flag {word!r} has an empty name")
        out[key] = text if equals else None
    return out


def _spelled(cls: type[pydantic.BaseModel] | None, key: tuple[Key, ...]) -> tuple[Key, ...]:
    """The key with dashes turned to underscores wherever the field is spelled so."""
    out: list[Key] = []
    for part in key:
        name = str(part).replace("-", "_")
        known = cls is not None and name in cls.model_fields
        out.append(name if known else part)
        cls = _model_in(cls.model_fields[name].annotation) if cls is not None and known else None
    return tuple(out)


def _put(data: dict[str, Any], key: tuple[Key, ...], value: Any, cls: type[pydantic.BaseModel]) -> None:
    *parents, last = _spelled(cls, key)
    for parent in parents:
        inner = data.get(str(parent))
        if isinstance(inner, str):  # a part given by name alone: `--reward.scale 2` on top of `reward: overlong`
            inner = {"name": inner}
        data[str(parent)] = data = dict(inner) if isinstance(inner, dict) else {}
    data[str(last)] = value


def _model_in(annotation: Any) -> type[pydantic.BaseModel] | None:
    """The config class inside an annotation such as `Inner | None`."""
    if inspect.isclass(annotation) and issubclass(annotation, pydantic.BaseModel):
        return annotation
    return next(filter(None, map(_model_in, getattr(annotation, "__args__", ()) or ())), None)


def _explain(cls: type[pydantic.BaseModel], error: pydantic.ValidationError, where: Callable[[tuple[Key, ...]], str]) -> UserError:
    found = error.errors(include_url=False)
    first = next((e for e in found if e["type"] == "extra_forbidden"), found[0])
    names, model, known = [], cls, list(cls.model_fields)
    wanted: Any = None
    for part in first["loc"]:
        if model is None or part not in model.model_fields:
            if isinstance(part, int) or first["type"] == "extra_forbidden":
                names.append(str(part))
            continue
        names.append(str(part))
        wanted = model.model_fields[str(part)].annotation
        model = _model_in(wanted)  # type: ignore[assignment]
        known = list(model.model_fields) if model is not None else known
    field, origin = ".".join(names), where(tuple(first["loc"]))
    prefix = f"{origin}: " if origin else ""
    if first["type"] == "extra_forbidden":
        text = f"unknown key {field!r}; {_meant(cls, names[-1], known)}"
    elif first["type"] == "missing":
        text = f"field {field!r} is missing; it has no default"
    elif first["type"] in ("value_error", "assertion_error"):
        text = f"field {field!r}: {first['msg'].split(', ', 1)[-1]}" if field else first["msg"].split(", ", 1)[-1]
    else:
        told = str(first["msg"])
        plain_type = told.startswith("Input should be a valid") or first["type"] == "literal_error"
        rule = "" if plain_type else f" ({told.replace('Input should be', 'it must be')})"
        text = f"field {field!r} is {first['input']!r}; wanted {type_name(wanted)}{rule}"
    more = len({e["loc"][:1] for e in found}) - 1
    return UserError(f"{prefix}{text}".replace("\n", " ") + (f" (and {more} more)" if more > 0 else ""))


def _meant(cls: type[pydantic.BaseModel], name: str, known: Sequence[str]) -> str:
    """The nearest of the known names; where fields of other sections are called just so, those: `did you mean 'rl.steps'?`."""
    elsewhere = [row[0] for row in describe_fields(cls) if row[0].rpartition(".")[2] == name.replace("-", "_") and "." in row[0]]
    return f"did you mean {' or '.join(map(repr, elsewhere))}?" if elsewhere else did_you_mean(name, known)


def type_name(annotation: Any) -> str:
    """A short name of a type, as shown to the user: `int`, `list[str]`, `'a' | 'b'`, `int | None`."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " | ".join(map(repr, inner))
    if origin in (Union, UnionType):
        return " | ".join(map(type_name, inner))
    if origin is Annotated:
        return type_name(inner[0])
    if inner and origin is not None:
        parts = ["..." if one is Ellipsis else type_name(one) for one in inner]
        return f"{type_name(origin)}[{', '.join(parts)}]"
    if annotation in (None, type(None), Any):
        return "any" if annotation is Any else "None"
    return str(getattr(annotation, "__name__", None) or annotation)


def plain(value: Any) -> Any:
    """A config (or anything inside one) as JSON values; a Python object is named `module:name`."""
    if isinstance(value, pydantic.BaseModel):
        return {name: plain(getattr(value, name)) for name in type(value).model_fields}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted((plain(item) for item in value), key=repr)
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, (str, Path)):
        return str(value)
    if isinstance(value, (bool, int, float)):
        return value.real
    owner = value if hasattr(value, "__qualname__") else type(value)
    return f"{owner.__module__}:{owner.__qualname__}"


def to_yaml(config: Config | Mapping[str, Any]) -> str:
    """The whole config with every default written out; `load_config` reads it back."""
    return yaml.safe_dump(plain(config), sort_keys=False, allow_unicode=True, width=1000)


def diff_configs(a: Config | Mapping[str, Any], b: Config | Mapping[str, Any]) -> list[str]:
    """What differs, one line for each field: `optimizer.lr: 0.1 -> 0.2`; empty where nothing does."""
    left, right = _leaves(plain(a)), _leaves(plain(b))
    keys = list(left) + [key for key in right if key not in left]
    absent = object()
    out = []
    for key in keys:
        old, new = left.get(key, absent), right.get(key, absent)
        if (old is absent) != (new is absent) or json.dumps(old, default=repr) != json.dumps(new, default=repr):
            texts = ["(absent)" if v is absent else json.dumps(v, default=repr) for v in (old, new)]
            out.append(f"{key}: {texts[0]} -> {texts[1]}")
    return out


def _leaves(value: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(value, Mapping) and value:
        return {k: v for key, item in value.items() for k, v in _leaves(item, f"{prefix}.{key}" if prefix else str(key)).items()}
    return {prefix: value}


def describe_fields(cls: type[pydantic.BaseModel], prefix: str = "") -> list[tuple[str, str, str, str]]:
    """(name, type, default, description) of each field, sub-configs with dotted names: the material of a help text."""
    out = []
    for name, field in cls.model_fields.items():
        inner = _model_in(field.annotation)
        if inner is not None and issubclass(inner, Config):
            out += describe_fields(inner, f"{prefix}{name}.")
            continue
        default = "required" if field.is_required() else json.dumps(plain(field.get_default(call_default_factory=True)), default=repr)
        out.append((prefix + name, type_name(field.annotation), default, field.description or ""))
    return out
