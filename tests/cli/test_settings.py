"""Settings: flags over environment over file over defaults, each with its origin."""

from __future__ import annotations

from pathlib import Path

import pytest

from outboxd import settings
from outboxd.errors import ConfigError


def test_defaults_say_that_they_are(workplace: Path) -> None:
    found = settings.load(environ={})
    assert (found.data, found.redis, found.node) == (Path("outboxd-data"), None, None)
    assert found.origins == {}
    assert found.shown()["data"] == ("outboxd-data", "default")
    assert found.shown()["redis"] == ("embedded", "default")


def test_each_layer_beats_the_one_below(workplace: Path) -> None:
    (workplace / "outboxd.toml").write_text('data = "a"\nredis = "redis://a"\nnode = "a"\n')
    environ = {"OUTBOXD_REDIS": "redis://b", "OUTBOXD_NODE": "b"}
    found = settings.load({"node": "c", "data": None}, environ=environ)
    assert (found.data, found.redis, found.node) == (Path("a"), "redis://b", "c")
    assert found.origins == {
        "data": "outboxd.toml:1",
        "redis": "OUTBOXD_REDIS",
        "node": "--node",
    }


def test_another_file_is_read_instead_and_paths_are_relative_to_it(workplace: Path) -> None:
    (workplace / "outboxd.toml").write_text("this is not even TOML")
    (workplace / "etc").mkdir()
    (workplace / "etc/mine.toml").write_text(
        'data = "state"\nplugins = ["shop.py"]\ndrain = "2m"\nlog = "debug"\n'
    )
    found = settings.load(config=Path("etc/mine.toml"), environ={})
    assert found.data == Path("etc/state")
    assert (found.plugins, found.drain, found.log) == (("shop.py",), 120.0, "debug")


@pytest.mark.parametrize(
    ("text", "said", "hint"),
    [
        ('node = "a"\nredi = "x"\n', "outboxd.toml:2: unknown key 'redi'", "mean 'redis'"),
        ("zebra = 1\n", "outboxd.toml:1: unknown key 'zebra'", "known keys: data"),
        ("[server]\nport = 1\n", "outboxd.toml:1: unknown key 'server'", "known keys"),
        ("node = \n", "outboxd.toml: Invalid value", "TOML"),
        ("\ndata = 5\n", "outboxd.toml:2: data: 5 is not a text", "None"),
        ('redis = "localhost"\n', "outboxd.toml:1: redis: 'localhost' is no URL", "redis://host"),
        ('drain = "soon"\n', "outboxd.toml:1: drain: 'soon' is not a duration", "30s"),
        ("drain = true\n", "outboxd.toml:1: drain: True is not a duration", "30s"),
        ('log = "loud"\n', "outboxd.toml:1: log: 'loud' is no log level", "debug, info"),
        ("plugins = [1]\n", "outboxd.toml:1: plugins: [1] is no list", "plugins"),
        ('redis_file = "gone"\n', "outboxd.toml:1: redis_file: cannot read gone", "None"),
    ],
)
def test_a_mistake_in_the_file_is_named_with_its_line(
    workplace: Path, text: str, said: str, hint: str
) -> None:
    (workplace / "outboxd.toml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        settings.load(environ={})
    assert caught.value.message.startswith(said)
    assert hint in str(caught.value.hint)


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"OUTBOXD_REDIS": "http://x"}, "OUTBOXD_REDIS: 'http://x' is no URL"),
        ({"OUTBOXD_DRAIN": "x"}, "OUTBOXD_DRAIN: 'x' is not a duration"),
        ({"OUTBOXD_REDIS_FILE": "/nowhere"}, "OUTBOXD_REDIS_FILE: cannot read /nowhere"),
    ],
)
def test_a_mistake_in_the_environment_names_the_variable(
    environ: dict[str, str], said: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        settings.load(environ=environ)
    assert caught.value.message.startswith(said)


def test_a_missing_file_is_named() -> None:
    with pytest.raises(ConfigError, match=r"cannot read mine\.toml: No such file"):
        settings.load(config=Path("mine.toml"), environ={})


def test_a_secret_comes_from_a_file_unless_it_is_given(workplace: Path) -> None:
    (workplace / "url").write_text("redis://:geheim@host:6379\n")
    from_file = settings.load(environ={"OUTBOXD_REDIS_FILE": "url"})
    assert from_file.redis == "redis://:geheim@host:6379"
    assert from_file.origins["redis"] == "OUTBOXD_REDIS_FILE"
    both = {"OUTBOXD_REDIS_FILE": "url", "OUTBOXD_REDIS": "redis://open"}
    assert settings.load(environ=both).redis == "redis://open"
    (workplace / "outboxd.toml").write_text('redis_file = "url"\n')
    assert settings.load(environ={}).redis == "redis://:geheim@host:6379"


def test_passwords_are_not_shown() -> None:
    found = settings.load({"redis": "redis://ada:geheim@host:6379/1"}, environ={})
    assert found.shown()["redis"] == ("redis://ada:***@host:6379/1", "--redis")
    with pytest.raises(ConfigError) as caught:
        settings.load({"redis": "http://ada:geheim@host"}, environ={})
    assert "geheim" not in caught.value.message


def test_plugins_from_the_environment_are_words() -> None:
    assert settings.load(environ={"OUTBOXD_PLUGINS": "a.b shop.py"}).plugins == ("a.b", "shop.py")
