"""From the text of a user's file to a validated object, or to one sentence that says why not."""

from __future__ import annotations

import tomllib
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from lnagents.model.errors import InputError


class StrictModel(BaseModel):
    """Base of all that is read from files: unknown keys are refused, objects do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Parsed = TypeVar("Parsed", bound=BaseModel)


def parse_yaml(text: str, source: str, kind: type[Parsed], error: type[InputError]) -> Parsed:
    """Parse YAML `text` into `kind`.

    Raises:
        InputError: of the class `error`, naming the file `source` and the key.
    """
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as exc:
        mark = getattr(exc, "problem_mark", None)
        place = f"line {mark.line + 1}: " if mark is not None else ""
        raise error(source, f"{place}not valid YAML, {getattr(exc, 'problem', exc)}") from exc
    return validate(data, source, kind, error)


def parse_toml(text: str, source: str, kind: type[Parsed], error: type[InputError]) -> Parsed:
    """Parse TOML `text` into `kind`.

    Raises:
        InputError: of the class `error`, naming the file `source` and the key.
    """
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise error(source, f"not valid TOML, {exc}") from exc
    return validate(data, source, kind, error)


def validate(data: Any, source: str, kind: type[Parsed], error: type[InputError]) -> Parsed:
    """Check parsed `data` against `kind`; of several problems the first is told.

    Raises:
        InputError: of the class `error`, naming the file `source` and the key.
    """
    try:
        return kind.model_validate(data)
    except ValidationError as exc:
        raise error(source, _sentence(exc)) from exc


def _sentence(exc: ValidationError) -> str:
    first = exc.errors(include_url=False)[0]
    key = _key(first["loc"])
    if first["type"] == "extra_forbidden":
        return f"{key}: unknown key"
    if first["type"] == "missing":
        return f"{key}: missing"
    if first["type"] == "value_error":
        # Validators of whole objects name the key themselves.
        message = str(first["ctx"]["error"])
        return f"{key}: {message}" if key else message
    message = first["msg"][0].lower() + first["msg"][1:]
    found = "" if isinstance(first["input"], dict | list) else f", got {first['input']!r}"
    return f"{key or 'the file'}: {message}{found}"


def _key(location: tuple[int | str, ...]) -> str:
    key = ""
    for part in location:
        key += f"[{part}]" if isinstance(part, int) else f".{part}" if key else part
    return key
