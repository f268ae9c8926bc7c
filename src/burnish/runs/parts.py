"""Parts by name: a module of a package, a dotted name, or a name in the user's own file. There is no registry to edit."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib
import importlib.util
import inspect
import pkgutil
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from burnish.runs.config import Config, build
from burnish.runs.errors import UserError, did_you_mean


def names(package_name: str) -> dict[str, str]:
    """The parts of a package and the module each lives in: modules with an attribute `part`, and the keys of a module's dict `parts`."""
    package = importlib.import_module(package_name)
    out: dict[str, str] = {}
    for info in pkgutil.iter_modules(package.__path__):
        if info.name.startswith("_"):
            continue
        try:
            module = importlib.import_module(f"{package_name}.{info.name}")
        except ImportError as error:
            if (error.name or "").split(".")[0] == package_name.split(".")[0]:
                raise
            out[info.name] = f"{package_name}.{info.name}"  # an extra is missing: the name is known, `find` says what to install
            continue
        if hasattr(module, "part"):
            out[info.name] = module.__name__
        out.update(dict.fromkeys(getattr(module, "parts", {}), module.__name__))
    return out


def find(package_name: str, name: str) -> Any:
    """The part called `name`: of the package, or `pkg.mod:name`, `pkg.mod.name`, `file.py:name`. Raises UserError naming the nearest."""
    if name.endswith(".py") or ".py:" in name:
        path, _, attribute = name.rpartition(":") if ".py:" in name else (name, "", "")
        return _attribute(load_file(path), attribute or "part", path)
    if ":" in name:
        module_name, _, attribute = name.partition(":")
        return _attribute(_import(module_name, name), attribute, module_name)
    spelled = name.replace("-", "_")
    known = names(package_name)
    found = next((key for key in (name, spelled) if key in known), None)
    if found is not None:
        module = _import(known[found], found)
        in_dict = getattr(module, "parts", {})
        if found in in_dict:
            return in_dict[found]
        return module.part
    if "." in name:
        module_name, _, attribute = name.rpartition(".")
        return _attribute(_import(module_name, name), attribute, module_name)
    raise UserError(f"unknown {_kind(package_name)} {name!r}; {did_you_mean(name, known)} (your own: file.py:name)")


def make(package: str, spec: Any) -> Any:
    """The object that `spec` describes.

    spec: a name; `{"name": name, argument: value, ...}`; or an object, which is passed through.
    A class is built with the arguments; a function is returned (with arguments: bound to it).
    Raises UserError for an unknown argument, naming the nearest.
    """
    if isinstance(spec, str):
        spec = {"name": spec}
    if not isinstance(spec, Mapping):
        return spec
    arguments = dict(spec)
    name = arguments.pop("name", None)
    kind = _kind(package)
    if not isinstance(name, str):
        raise UserError(f"a {kind} is given by its name, or as a mapping with the key 'name'; got {spec!r}")
    part = find(package, name)
    label = f"{kind} {name!r}"
    if inspect.isclass(part) and issubclass(part, Config):
        return build(part, arguments, label)
    if not inspect.isclass(part) and not inspect.isroutine(part):
        if arguments:
            raise UserError(f"{label} takes no arguments; got {', '.join(sorted(arguments))}")
        return part
    _check_arguments(part, arguments, label)
    if inspect.isroutine(part):
        return functools.partial(part, **arguments) if arguments else part
    try:
        return part(**arguments)
    except UserError:
        raise
    except (TypeError, ValueError) as error:
        raise UserError(f"{label}: {' '.join(str(error).split())}") from error


def check(package: str, spec: Any, given: tuple[str, ...] = ()) -> None:
    """Raises UserError for a name or an argument that `make` would refuse, without making the part.

    given: arguments that the caller will add.
    """
    if isinstance(spec, str):
        spec = {"name": spec}
    if not isinstance(spec, Mapping):
        return
    if not isinstance(spec.get("name"), str):
        raise UserError(f"a {_kind(package)} is given by its name, or as a mapping with the key 'name'; got {spec!r}")
    part = find(package, spec["name"])
    if callable(part) and not (inspect.isclass(part) and issubclass(part, Config)):
        own = {key: value for key, value in spec.items() if key != "name" and key not in given}
        _check_arguments(part, own, f"{_kind(package)} {spec['name']!r}")


def _check_arguments(part: Any, arguments: dict[str, Any], label: str) -> None:
    if dataclasses.is_dataclass(part):
        known, any_name = [field.name for field in dataclasses.fields(part) if field.init], False
    else:
        parameters = inspect.signature(part).parameters.values()
        any_name = any(p.kind is p.VAR_KEYWORD for p in parameters)
        known = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    for name in arguments:
        if name not in known and not any_name:
            hint = did_you_mean(name, known) if known else "it takes none"
            raise UserError(f"{label}: unknown argument {name!r}; {hint}")


def load_file(path: str | Path) -> ModuleType:
    """The user's Python file as a module. An unchanged file is loaded once.

    Raises UserError naming file and line where it does not load.
    """
    path = Path(path)
    try:
        source = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; check the path") from None
    mark = hashlib.blake2b(str(path.resolve()).encode() + b"\0" + source, digest_size=6).hexdigest()
    name = f"burnish_user_{path.stem}_{mark}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UserError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        # compiled here rather than by the loader: its cache goes by the second and could give an older text of the file
        exec(compile(source, str(path), "exec"), module.__dict__)
    except BaseException as error:
        del sys.modules[name]
        if not isinstance(error, (Exception, SystemExit)):
            raise
        line = error.lineno if isinstance(error, SyntaxError) else _line_in(error, path)
        what = error.msg if isinstance(error, SyntaxError) else " ".join(str(error).split())
        raise UserError(f"{path}, line {line}: {type(error).__name__}: {what}; mend the file") from error
    return module


def _line_in(error: BaseException, path: Path) -> int | str:
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path) and frame.lineno]
    return lines[-1] if lines else "?"


def _import(module_name: str, name: str) -> ModuleType:
    try:
        return importlib.import_module(module_name)
    except ImportError as error:
        missing = error.name or module_name
        remedy = "check the spelling" if module_name.startswith(missing) else f"install {missing}"
        raise UserError(f"cannot load {name!r}: {' '.join(str(error).split())}; {remedy}") from error


def _attribute(module: ModuleType, attribute: str, place: str) -> Any:
    if not hasattr(module, attribute):
        public = [name for name, value in vars(module).items() if not name.startswith("_") and not inspect.ismodule(value)]
        hint = did_you_mean(attribute, public) if public else "it defines nothing"
        raise UserError(f"{place} has no {attribute!r}; {hint}")
    return getattr(module, attribute)


def _kind(package_name: str) -> str:
    """`burnish.rl.curricula` -> `curriculum`, for messages."""
    word = package_name.rpartition(".")[2]
    return {"curricula": "curriculum", "presets": "preset", "rollouts": "thinker"}.get(word, word.removesuffix("s"))
