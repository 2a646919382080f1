"""Request bodies, read as leniently as Google reads them.

Google's parser of the proto3 JSON mapping takes single quotes, a byte order mark, trailing commas, bare keys, and field
names in lowerCamelCase and snake_case alike; but a field that it does not know is an error.

Source: protobuf.dev, ProtoJSON format; Cloud Healthcare API v1 discovery document (field names).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from airflow_dicomweb.emulator.messages import ApiError

MAX_BODY_BYTES = 10 * 1024 * 1024
"""Most bytes in a body that is no store transaction."""

Fields = Mapping[str, Any]
"""A message: field names, each with ``str``, ``int``, ``bool``, ``dict`` (a map of strings), another message, or ``[message]``."""

_TOKEN = re.compile(
    r"""\s*(?:(?P<mark>[{}\[\]:,])|"(?P<double>(?:[^"\\\n]|\\.)*)"|'(?P<single>(?:[^'\\\n]|\\.)*)'"""
    r"""|(?P<number>-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)|(?P<word>[A-Za-z_@$][\w@$]*))""",
    re.DOTALL,
)
_WORDS: dict[str, Any] = {"true": True, "false": False, "null": None}
_DEEPEST = 50


def read_message(body: bytes, fields: Fields) -> dict[str, Any]:
    """Read a body as a message: names in lowerCamelCase, absent and null fields left out.

    :raises ApiError: 400 if it is no JSON object, or has unknown or mistyped fields.
    """
    parsed = parse(body)
    if not isinstance(parsed, dict):
        raise ApiError(400, "Invalid JSON payload received. The body must be an object.")
    return _checked(parsed, fields, "")


def parse(body: bytes) -> Any:
    """Read JSON: strictly if it can be, else as Google does.

    :raises ApiError: 400 if it cannot be read at all.
    """
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ApiError(400, "Invalid JSON payload received. The body is not UTF-8.") from None
    if not text.strip():
        return {}
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return _Lenient(text).read()


class _Lenient:
    """Reader of what Google's parser accepts beyond JSON."""

    def __init__(self, text: str) -> None:
        self._text, self._at = text, 0

    def read(self) -> Any:
        value = self._value(0)
        if self._text[self._at :].strip():
            raise self._error()
        return value

    def _error(self) -> ApiError:
        line = self._text.count("\n", 0, self._at) + 1
        return ApiError(400, f"Invalid JSON payload received. Unexpected token, line {line}.")

    def _next(self) -> re.Match[str]:
        match = _TOKEN.match(self._text, self._at)
        if match is None:
            raise self._error()
        self._at = match.end()
        return match

    def _peek(self) -> str | None:
        match = _TOKEN.match(self._text, self._at)
        return match["mark"] if match else None

    def _value(self, depth: int) -> Any:
        if depth > _DEEPEST:
            raise ApiError(400, "Invalid JSON payload received. Too deeply nested.")
        token = self._next()
        if token["mark"] == "{":
            return self._object(depth)
        if token["mark"] == "[":
            return self._array(depth)
        if token["number"] is not None:
            return json.loads(token["number"]) if not re.match(r"-?0\d", token["number"]) else token["number"]
        if token["word"] in _WORDS:
            return _WORDS[token["word"]]
        return self._string(token)

    def _string(self, token: re.Match[str]) -> str:
        double, single = token["double"], token["single"]
        if single is not None:
            double = re.sub(r'\\(.)|"', lambda m: '\\"' if m[0] == '"' else m[1] if m[1] == "'" else m[0], single)
        if double is None:
            raise self._error()
        try:
            return str(json.loads(f'"{double}"', strict=False))
        except ValueError:
            raise self._error() from None

    def _object(self, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while self._peek() != "}":
            token = self._next()
            key = token["word"] or self._string(token)
            if self._next()["mark"] != ":":
                raise self._error()
            found[key] = self._value(depth + 1)
            self._comma("}")
        self._next()
        return found

    def _array(self, depth: int) -> list[Any]:
        found: list[Any] = []
        while self._peek() != "]":
            found.append(self._value(depth + 1))
            self._comma("]")
        self._next()
        return found

    def _comma(self, closing: str) -> None:
        if self._peek() != closing and self._next()["mark"] != ",":
            raise self._error()


def camel_case(name: str) -> str:
    """Give the lowerCamelCase name of a field in either spelling."""
    return re.sub(r"_([a-z0-9])", lambda match: match[1].upper(), name)


def _checked(parsed: Mapping[str, Any], fields: Fields, where: str) -> dict[str, Any]:
    message: dict[str, Any] = {}
    for given, value in parsed.items():
        name = camel_case(given)
        if name not in fields:
            at = f" at '{where}'" if where else ""
            raise ApiError(400, f'Invalid JSON payload received. Unknown name "{given}"{at}: Cannot find field.')
        if value is not None:
            message[name] = _checked_value(value, fields[name], f"{where}.{given}" if where else given)
    return message


def _checked_value(value: Any, kind: Any, where: str) -> Any:
    if kind is str and isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if isinstance(kind, list) and isinstance(value, list):
        return [_checked_value(item, kind[0], where) for item in value]
    if isinstance(kind, Mapping) and isinstance(value, dict):
        return _checked(value, kind, where)
    if kind is dict and isinstance(value, dict) and all(isinstance(item, str) for item in value.values()):
        return value
    if kind is int and isinstance(value, bool):
        raise ApiError(400, f"Invalid value at '{where}'.")
    if isinstance(kind, type) and kind is not dict and isinstance(value, kind):
        return value
    raise ApiError(400, f"Invalid value at '{where}'.")
