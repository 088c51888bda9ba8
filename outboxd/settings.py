"""What outboxd is told from outside: flags over environment over a TOML file over defaults.

Each value remembers where it came from. An unknown key of the file is an error, with the nearest
known one: a misspelt setting that is silently ignored is found out in production.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import urlsplit, urlunsplit

import msgspec

from .clock import seconds
from .errors import ConfigError
from .words import nearest

FILE = "outboxd.toml"
"""Read from the working directory unless another file is named."""

PREFIX = "OUTBOXD_"

DEFAULT = "default"

Level = Literal["debug", "info", "warning", "error"]

_SCHEMES = ("redis", "rediss", "unix")


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``data``: the data directory; ``redis``: the broker's URL, or None for the embedded one;
    ``node``: this node's id, or None for the one kept in the data directory; ``plugins``: what to
    host when no plugin is named; ``drain``: seconds that messages in hand have to finish at a
    stop; ``log``: the least level that is logged; ``keys``: of the dashboard, action to key, where
    they differ from its own; ``origins``: where each value came from.
    """

    data: Path = Path("outboxd-data")
    redis: str | None = None
    node: str | None = None
    plugins: tuple[str, ...] = ()
    drain: float = 10.0
    log: Level = "info"
    keys: dict[str, str] = {}
    origins: dict[str, str] = {}

    def shown(self) -> dict[str, tuple[str, str]]:
        """Name to (value as text, origin), without passwords."""
        texts = {
            "data": str(self.data),
            "redis": redacted(self.redis) if self.redis else "embedded",
            "node": self.node or "from the data directory",
            "plugins": " ".join(self.plugins) or "plugins, where that folder exists",
            "drain": f"{self.drain:g}s",
            "log": self.log,
            "keys": ", ".join(f"{k} = {v}" for k, v in self.keys.items()) or "the dashboard's own",
        }
        return {name: (text, self.origins.get(name, DEFAULT)) for name, text in texts.items()}


def load(
    flags: Mapping[str, Any] | None = None,
    *,
    config: Path | None = None,
    environ: Mapping[str, str] | None = None,
) -> Settings:
    """The settings in force. ``flags`` holds what the command line gave; None means not given.

    Raises ConfigError naming the flag, variable, or file and line that is wrong.
    """
    environ = os.environ if environ is None else environ
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for layer in (_from_file(config), _from_environment(environ), _from_flags(flags or {})):
        for name, (value, origin) in layer.items():
            values[name], origins[name] = value, origin
    return Settings(**values, origins=origins)


def redacted(url: str) -> str:
    """``url`` without its password."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    return urlunsplit(parts._replace(netloc=parts.netloc.replace(f":{parts.password}@", ":***@")))


Layer = dict[str, tuple[Any, str]]


def _from_flags(flags: Mapping[str, Any]) -> Layer:
    return {
        name: (_decoded(name, value, f"--{name}"), f"--{name}")
        for name, value in flags.items()
        if value is not None and value != ()
    }


def _from_environment(environ: Mapping[str, str]) -> Layer:
    found: Layer = {}
    for name in _DECODERS.keys() - {"keys"}:  # a table: only a file has those
        variable = f"{PREFIX}{name.upper()}"
        if environ.get(variable):
            found[name] = (_decoded(name, environ[variable], variable), variable)
    secret = f"{PREFIX}REDIS_FILE"
    if environ.get(secret) and "redis" not in found:
        found["redis"] = (_secret(Path(environ[secret]), secret), secret)
    return found


def _from_file(config: Path | None) -> Layer:
    path = config or Path(FILE)
    if config is None and not path.is_file():
        return {}
    text = _text_of(path)
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as err:
        raise ConfigError(f"{path}: {err}", hint='the file is TOML: key = "value"') from err
    found: Layer = {}
    for key, value in document.items():
        line = _line_of(text, key)
        where = f"{path}:{line}: {key}"
        if key == "redis_file":
            found["redis"] = (_secret(path.parent / str(value), where), f"{path}:{line}")
        elif key not in _DECODERS:
            raise ConfigError(f"{path}:{line}: unknown key {key!r}", hint=_nearest(key))
        else:
            decoded = _decoded(key, value, where)
            if key == "data":  # as in every other file format: relative to the file that says so
                decoded = path.parent / decoded
            found[key] = (decoded, f"{path}:{line}")
    return found


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as err:
        reason = err.strerror if isinstance(err, OSError) else "it is not UTF-8"
        raise ConfigError(f"cannot read {path}: {reason}") from err


def _secret(path: Path, where: str) -> str:
    try:
        text = path.read_text(encoding="utf-8").strip()
    except OSError as err:
        raise ConfigError(f"{where}: cannot read {path}: {err.strerror}") from err
    return str(_decoded("redis", text, where))


def _nearest(key: str) -> str:
    known = sorted([*_DECODERS, "redis_file"])
    near = nearest(key, known)
    return f"did you mean {near!r}?" if near else f"known keys: {', '.join(known)}"


def _line_of(text: str, key: str) -> int:
    """Where ``key`` is set; tomllib does not say, and a bare or quoted key begins its line."""
    opening = re.compile(rf"\s*\[?\s*[\"']?{re.escape(key)}[\"']?\s*[=.\]]")
    lines = enumerate(text.splitlines(), 1)
    return next((number for number, line in lines if opening.match(line)), 1)


def _decoded(name: str, value: Any, where: str) -> Any:
    try:
        return _DECODERS[name](value)
    except ConfigError as err:
        raise ConfigError(f"{where}: {err.message}", hint=err.hint) from err


def _path(value: Any) -> Path:
    return Path(_words(value)).expanduser()


def _words(value: Any) -> str:
    if isinstance(value, Path):
        return str(value)
    if not isinstance(value, str) or not value.strip():
        raise ConfigError(f"{value!r} is not a text")
    return value.strip()


def _url(value: Any) -> str:
    url = _words(value)
    if urlsplit(url).scheme not in _SCHEMES:
        shown = redacted(url)
        raise ConfigError(
            f"{shown!r} is no URL of a Redis or Valkey server",
            hint="write redis://host:6379/0, rediss://host:6379/0 or unix:///path/to/socket",
        )
    return url


def _names(value: Any) -> tuple[str, ...]:
    names = value.split() if isinstance(value, str) else value
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"{value!r} is no list of plugins", hint='write ["plugins", "shop.py"]')
    return tuple(names)


def _span(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ConfigError(f"{value!r} is not a duration", hint="write it like 250ms, 30s or 2m")
    text = str(value)
    number = float(text) if re.fullmatch(r"\d+(\.\d+)?", text) else seconds(text)
    return number


def _level(value: Any) -> Level:
    if value not in get_args(Level):
        raise ConfigError(f"{value!r} is no log level", hint=f"one of {', '.join(get_args(Level))}")
    level: Level = value
    return level


def _texts(value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(v, str) and v for v in value.values()):
        raise ConfigError(f"{value!r} is no table of texts", hint='write [keys] and freeze = "F5"')
    return value


_DECODERS: dict[str, Callable[[Any], Any]] = {
    "data": _path,
    "redis": _url,
    "node": _words,
    "plugins": _names,
    "drain": _span,
    "log": _level,
    "keys": _texts,
}
