"""The palette: every action of the screen that is open, by name."""

from __future__ import annotations

from functools import partial
from typing import Any

from textual.command import DiscoveryHit, Hit, Hits, Provider

from .keys import Key


class Actions(Provider):
    """The keys of the screen, and themes."""

    def _keys(self) -> list[Key]:
        screen: Any = self.screen
        name = getattr(screen, "name_", "")
        return screen.app.keys_of(name) if name else []

    async def discover(self) -> Hits:
        for key in self._keys():
            yield DiscoveryHit(_title(key), partial(self._run, key), help=key.text)
        yield DiscoveryHit("Theme…", self.app.action_change_theme, help="Choose a theme")

    async def search(self, query: str) -> Hits:
        matcher = self.matcher(query)
        for key in self._keys():
            text = f"{_title(key)} {key.text}"
            score = matcher.match(text)
            if score > 0:
                yield Hit(
                    score, matcher.highlight(_title(key)), partial(self._run, key), help=key.text
                )
        score = matcher.match("Theme")
        if score > 0:
            yield Hit(score, "Theme…", self.app.action_change_theme, help="Choose a theme")

    async def _run(self, key: Key) -> None:
        action = key.action if key.action.startswith("app.") else f"screen.{key.action}"
        await self.app.run_action(action)


def _title(key: Key) -> str:
    return f"{key.label}  ({key.shown})"
