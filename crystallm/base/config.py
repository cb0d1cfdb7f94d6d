"""Recipes: YAML files read into frozen dataclasses; an unknown field or a wrong type is a ConfigError naming it."""

import dataclasses
import re
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, Union

from crystallm.base.errors import ConfigError
from crystallm.base.whole_file import whole_file

C = TypeVar("C")


def load_recipe(cls: type[C], path: Path | str, *, overrides: Sequence[str] = ()) -> C:
    """Read the recipe at `path` into `cls`; each override is `field=value` or `field.inner=value` in YAML spelling."""
    return from_mapping(cls, with_overrides(read_recipe(path, cls.__name__), overrides), source=str(path))


def read_recipe(path: Path | str, name: str) -> dict[str, Any]:
    """The plain values of the recipe at `path`, which holds fields of what is called `name`."""
    import yaml

    path = Path(path)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the recipe {path}: {error}; give the path of a YAML file") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from error
    content = {} if content is None else content
    if not isinstance(content, dict):
        raise ConfigError(f"{path} must hold fields of {name} as `name: value` lines, got {content!r}")
    return content


def with_overrides(content: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Return the plain values of a recipe with overrides applied, such as `seed=1` or `model.layers=4`."""
    for override in overrides:
        content = _set(content, override)
    return content


def from_mapping(cls: type[C], content: Mapping[str, Any], *, source: str = "recipe") -> C:
    """Build the dataclass `cls` from plain values, checking names and types; `source` opens each error message."""
    assert dataclasses.is_dataclass(cls)
    hints = typing.get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls) if field.init}
    for name in content:
        if name not in fields:
            raise ConfigError(unknown_field(name, {cls: fields}, source))
    for name, field in fields.items():
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and name not in content:
            raise ConfigError(f"{source}: field {name!r} of {cls.__name__} is missing; add it")
    values = {name: _convert(value, hints[name], f"{source}: {name}") for name, value in content.items()}
    return typing.cast("C", cls(**values))


def unknown_field(name: str, fields: Mapping[type, Iterable[str]], source: str) -> str:
    """What is said of a field that none of some classes has; `fields` of each."""
    there = "; ".join(f"{cls.__name__} has {', '.join(names)}" for cls, names in fields.items())
    return f"{source}: unknown field {name!r}; {there}"


def to_mapping(config: Any) -> dict[str, Any]:
    """Return the fields of a recipe as plain values that YAML and JSON can hold."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [plain(item) for item in value]
        return str(value) if isinstance(value, Path) else value

    return {key: plain(value) for key, value in dataclasses.asdict(config).items()}


def write_recipe(config: Any, path: Path) -> None:
    """Write a recipe with every field spelled out, defaults included."""
    import yaml

    with whole_file(path) as partial:
        partial.write_text(yaml.safe_dump(to_mapping(config), sort_keys=False), encoding="utf-8")


def _convert(value: Any, hint: Any, where: str) -> Any:
    """Return `value` as the annotated type `hint`, or raise a ConfigError that starts with `where`."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin is Literal:
        if value not in arguments or isinstance(value, bool) not in {isinstance(choice, bool) for choice in arguments}:
            raise ConfigError(f"{where} must be one of {', '.join(map(repr, arguments))}, got {value!r}")
        return value
    if origin in (Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        (inner,) = [argument for argument in arguments if argument is not type(None)]
        return _convert(value, inner, where)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{where} must be a list, got {value!r}")
        hints = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else list(arguments)
        if len(hints) != len(value):
            raise ConfigError(f"{where} must have {len(hints)} entries, got {value!r}")
        return tuple(
            _convert(item, inner, f"{where}[{i}]") for i, (item, inner) in enumerate(zip(value, hints, strict=True))
        )
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where} must hold fields of its own, got {value!r}")
        return from_mapping(typing.cast("type", hint), value, source=where)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is Path and isinstance(value, str):
        return Path(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        remedy = ""
        if hint is float and isinstance(value, str) and _NUMBER.fullmatch(value):
            remedy = f"; YAML reads {value} as text, write it as {float(value)!r} or with a decimal point"
        raise ConfigError(f"{where} must be {hint.__name__}, got {value!r}{remedy}")
    return value


_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?")


def _set(content: dict[str, Any], override: str) -> dict[str, Any]:
    """Return a copy of `content` with one `a.b=value` applied."""
    import yaml

    name, equals, text = override.partition("=")
    if not equals or not name:
        raise ConfigError(f"cannot use {override!r}; write field=value, such as seed=1 or model.layers=4")
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"the value of {override!r} is not valid YAML: {error}") from error
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        value = float(value)  # YAML takes 1e-3 for text; on a command line nobody means that
    *outer, last = name.split(".")
    content = dict(content)
    inner = content
    for key in outer:
        below = inner.get(key)
        if below is not None and not isinstance(below, dict):
            raise ConfigError(f"cannot set {name!r}: {key!r} holds {below!r}, not fields of its own")
        inner[key] = dict(below or {})
        inner = inner[key]
    inner[last] = value
    return content
