"""Plugins → registry: finds what was named, imports it, reports each failure on its own.

A participant is hosted because its plugin was named, never because it was imported: only those
count that were made inside the named module or package. One broken plugin does not hide the others,
nor their mistakes.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import sys
import sysconfig
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import msgspec

from .errors import ConfigError
from .participant import Participant
from .store import schema
from .store.connection import open_writer
from .words import nearest

FOLDER = "plugins"
"""Hosted when nothing is named; its packages import each other as ``plugins.NAME``."""

_MARK = "outboxd"
"""Only modules whose source has this word are imported when a whole folder is searched."""

_NOT_THEIRS = (
    f"{Path(__file__).parent}/",
    *(f"{sysconfig.get_path(name)}/" for name in ("stdlib", "purelib", "platlib")),
)
"""The line of a plugin that failed is the last one of its own, not one of a library below it."""

_log = logging.getLogger("outboxd.plugins")


class Found(msgspec.Struct):
    """What the named plugins hold, and what is wrong with the others."""

    participants: list[Participant] = []
    failures: list[ConfigError] = []


class _Place(msgspec.Struct, frozen=True):
    """Where a module is: its name, the folder that must be importable, and its own path."""

    name: str
    root: Path
    path: Path | None = None
    is_alone: bool = False


def load(names: Sequence[str]) -> list[Participant]:
    """The participants of the named plugins: modules, files or folders.

    Raises one ConfigError that names every failure.
    """
    found = find(names)
    if len(found.failures) == 1:
        raise found.failures[0]
    if found.failures:
        lines = [f"  {error.message}" for error in found.failures]
        raise ConfigError(
            "\n".join([f"{len(lines)} plugins cannot be used:", *lines]),
            hint="outboxd plugin check says more about each",
        )
    return found.participants


def find(names: Sequence[str]) -> Found:
    """Like ``load``, with the failures beside the participants instead of raised."""
    found = Found()
    for name in names:
        try:
            places = list(_places(name))
        except ConfigError as error:
            found.failures.append(error)
            continue
        before = len(found.failures)
        _load_places(name, places, found)
        if len(found.failures) == before and not _is_hosted(places, found):
            found.failures.append(_holds_none(name))
    return found


def check_schema(participant: Participant) -> None:
    """Applies the participant's tables to an empty database; ConfigError if they do not apply."""
    scripts = schema.participant_scripts(
        participant.name, participant.folder, participant.schema, participant.migrations
    )
    with tempfile.TemporaryDirectory(prefix="outboxd-check-") as folder:
        connection = open_writer(Path(folder) / "check.db")
        try:
            schema.migrate_own(connection)
            schema.migrate_participant(connection, participant.name, scripts)
        finally:
            connection.close()


# From a name to modules.


def _places(name: str) -> Iterator[_Place]:
    """The modules that ``name`` stands for; raises ConfigError if there is nothing of that name."""
    path = Path(name)
    if path.is_dir():
        yield from _in_folder(path.resolve())
    elif path.is_file():
        if path.suffix != ".py":
            raise ConfigError(f"{name}: a plugin is a Python module, a .py file or a folder")
        yield _place_of(path.resolve())
    elif "/" in name or path.suffix == ".py":
        raise _unknown(name, f"{name}: there is no such file or folder")
    else:
        yield _Place(name, Path.cwd())


def _in_folder(folder: Path) -> Iterator[_Place]:
    """The folder's own package and what lies in it, as far as it uses outboxd at all."""
    if _marks(folder / "__init__.py"):
        yield _place_of(folder)
    for path in _inside(folder):
        yield _place_of(path)


def _inside(folder: Path) -> list[Path]:
    """The modules and packages of a folder that use outboxd, by name."""
    return [
        path
        for path in sorted(folder.iterdir(), key=lambda path: path.stem)
        if (path.suffix == ".py" and not _is_no_plugin(path.stem) and _marks(path))
        or (path.is_dir() and any(_marks(inner) for inner in path.glob("*.py")))
    ]


def _is_no_plugin(stem: str) -> bool:
    """The package itself is taken before; what pytest collects is never a plugin."""
    return stem in ("__init__", "conftest") or stem.startswith("test_")


def _place_of(path: Path) -> _Place:
    """The dotted name under which ``path`` is imported by its neighbours."""
    parts = [path.stem]
    root = path.parent
    while (root / "__init__.py").is_file() or root == Path.cwd() / FOLDER:
        parts.insert(0, root.name)
        root = root.parent
    return _Place(".".join(parts), root, path, is_alone=len(parts) == 1 and path.is_file())


def _marks(path: Path) -> bool:
    try:
        return _MARK in path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False


# From a module to participants.


def _load_places(named: str, places: list[_Place], found: Found) -> None:
    failed: list[str] = []
    for place in places:
        if place.name.startswith(tuple(failed)):
            continue  # a package that does not import takes its modules with it, for one reason
        error = _load_place(named, place, found)
        if error is not None:
            prefix = "" if place.name == named or len(places) == 1 else f"{named}: "
            found.failures.append(ConfigError(prefix + error.message, hint=error.hint))
            failed.append(f"{place.name}.")


def _load_place(named: str, place: _Place, found: Found) -> ConfigError | None:
    try:
        module = _imported(place)
    except ConfigError as error:
        return ConfigError(f"{place.name}: {line_of(error)}{error.message}", hint=error.hint)
    except (Exception, SystemExit) as error:
        if _is_missing(error, place):
            return _unknown(named, f"there is no plugin {place.name!r}")
        _log.debug("plugin_failed name=%s", place.name, exc_info=error)
        return _broken(place.name, error)
    new = [p for p in _made_in(module) if all(p is not other for other in found.participants)]
    found.participants.extend(new)
    return None


def _imported(place: _Place) -> ModuleType:
    if str(place.root) not in sys.path:
        # A lone file comes last, so that it shadows nothing of the standard library.
        sys.path.insert(len(sys.path) if place.is_alone else 0, str(place.root))
    importlib.invalidate_caches()
    if place.is_alone:
        return _imported_alone(place)
    _claim_folder(place)
    module = importlib.import_module(place.name)
    _check_place(place, module)
    for name in _unseen_parts(module):
        importlib.import_module(name)
    return module


def _claim_folder(place: _Place) -> None:
    """Binds the name of a folder without ``__init__.py``, which any package elsewhere would win."""
    top = place.name.partition(".")[0]
    folder = place.root / top
    if not folder.is_dir() or (folder / "__init__.py").exists() or top in sys.modules:
        return
    module = ModuleType(top)
    module.__spec__ = ModuleSpec(top, None, is_package=True)
    module.__path__ = [str(folder)]
    sys.modules[top] = module


def _check_place(place: _Place, module: ModuleType) -> None:
    """Raises ConfigError if the name led elsewhere than the path that was named."""
    if place.path is None:
        return
    places = [getattr(module, "__file__", None), *getattr(module, "__path__", ())]
    inits = (place.path, place.path / "__init__.py")
    if not any(Path(found) in inits for found in places if found):
        raise ConfigError(
            f"the name {place.name!r} is taken by {places[0] or places[-1]}",
            hint=f"rename {shown(str(place.path))}",
        )


def _imported_alone(place: _Place) -> ModuleType:
    """A single file, under its own name, whatever else could be imported under it."""
    assert place.path is not None
    known = sys.modules.get(place.name)
    if known is not None:
        if getattr(known, "__file__", None) == str(place.path):
            return known
        raise ConfigError(
            f"the name {place.name!r} is taken by another module", hint="give the file another name"
        )
    spec = importlib.util.spec_from_file_location(place.name, place.path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[place.name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[place.name]
        raise
    return module


def _unseen_parts(module: ModuleType) -> Iterator[str]:
    """What lies in a package that makes no participant itself and has not imported its parts."""
    if not _made_in(module):
        for folder in getattr(module, "__path__", ()):
            yield from (f"{module.__name__}.{path.stem}" for path in _inside(Path(folder)))


def _made_in(module: ModuleType) -> list[Participant]:
    """The participants made in the module or package, in the order of their making."""
    prefix = f"{module.__name__}."
    found: list[Participant] = []
    for name, loaded in sorted(sys.modules.items()):
        if name == module.__name__ or name.startswith(prefix):
            for value in vars(loaded).values():
                is_own = isinstance(value, Participant) and f"{value.module}.".startswith(prefix)
                if is_own and all(value is not other for other in found):
                    found.append(value)
    return found


def _is_hosted(places: list[_Place], found: Found) -> bool:
    """Whether one of the participants was made in one of these places."""
    names = tuple(f"{place.name}." for place in places)
    return any(f"{participant.module}.".startswith(names) for participant in found.participants)


# Failures, in words.


def _is_missing(error: BaseException, place: _Place) -> bool:
    """Whether the plugin itself is not there, rather than something that it imports."""
    if not isinstance(error, ModuleNotFoundError) or error.name is None:
        return False
    return f"{place.name}.".startswith(f"{error.name}.")


def _broken(name: str, error: BaseException) -> ConfigError:
    said: str = str(error)
    hint: str | None = "with --verbose the whole traceback is in the log"
    if isinstance(error, SyntaxError):
        said, hint = error.msg, None
    elif isinstance(error, ModuleNotFoundError):
        hint = f"install {error.name}, or correct the import"
    elif isinstance(error, SystemExit):
        said, hint = "it ends the process", "a plugin is imported, not run: guard its main part"
    return ConfigError(f"{name}: {line_of(error)}{type(error).__name__}: {said}", hint=hint)


def line_of(error: BaseException) -> str:
    """``file:line: `` of the plugin's own line that failed; empty if no line of it is known."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{shown(error.filename)}:{error.lineno}: "
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if is_own(frame.filename):
            return f"{shown(frame.filename)}:{frame.lineno}: "
    return ""


def is_own(filename: str) -> bool:
    """Whether code of this file is a plugin's, and not a library's or outboxd's."""
    return not filename.startswith(("<", *_NOT_THEIRS))


def shown(path: str) -> str:
    """A path as seen from the working directory."""
    try:
        return str(Path(path).resolve().relative_to(Path.cwd()))
    except ValueError:
        return path


def _holds_none(name: str) -> ConfigError:
    return ConfigError(
        f"{name}: it holds no participant",
        hint='a plugin makes one: payments = Participant("payments"); importing one is not enough',
    )


def _unknown(name: str, message: str) -> ConfigError:
    candidates = _candidates(name)
    near = nearest(name, candidates)
    hint = f"did you mean {candidates[near]}?" if near else None
    return ConfigError(message, hint=hint or "name a module, a .py file or a folder")


def _candidates(name: str) -> dict[str, str]:
    """What could have been meant: how it might be written, and how it is written."""
    if "/" in name or name.endswith(".py"):
        return {path: path for path in map(str, _like_plugins(Path(name).parent))}
    known = {path.stem: path.name for path in _like_plugins(Path())}
    for path in _like_plugins(Path(FOLDER)):
        dotted = f"{FOLDER}.{path.stem}"
        known |= {path.stem: dotted, dotted: dotted}
    return known


def _like_plugins(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return [path for path in sorted(folder.iterdir()) if _could_be_plugin(path)]


def _could_be_plugin(path: Path) -> bool:
    return not path.name.startswith((".", "_")) and (path.is_dir() or path.suffix == ".py")
