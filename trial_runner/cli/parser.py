"""Parser that answers a misspelt command, option or choice with the nearest one."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NoReturn

from search_spaces._common.names import nearest_name


class Parser(argparse.ArgumentParser):
    """`argparse.ArgumentParser` whose errors name the nearest command, option or choice."""

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """Parse all arguments; exit with status 2 and a message where one is not known."""
        found, rest = self.parse_known_args(args, namespace)
        if rest:
            self._unknown(found, rest)
        return found

    def options(self) -> list[str]:
        """Return the long options of this parser."""
        return [name for action in self._actions for name in action.option_strings if name.startswith("--")]

    def parsers_below(self) -> dict[str, Parser]:
        """Return the parsers of the commands of this parser, by name."""
        found: dict[str, Parser] = {}
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                found |= {name: parser for name, parser in action.choices.items() if isinstance(parser, Parser)}
        return found

    def help_of(self, name: str) -> str:
        """Return the line of help of a command of this parser."""
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                for choice in action._choices_actions:
                    if choice.dest == name:
                        return choice.help or ""
        return ""

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            near = nearest_name(value, map(str, action.choices))
            hint = f"did you mean {near}? " if near else ""
            known = ", ".join(map(str, action.choices))
            raise argparse.ArgumentError(action, f"invalid choice: {value!r}; {hint}choose from {known}")

    def _unknown(self, found: argparse.Namespace, rest: Sequence[str]) -> NoReturn:
        parser = self
        for chosen in _chosen(found):
            parser = parser.parsers_below().get(chosen, parser)
        hints = [_hint(word, parser.options()) for word in rest if word.startswith("-")]
        told = "; ".join(hint for hint in hints if hint)
        parser.error(f"unrecognized arguments: {' '.join(rest)}{f'; {told}' if told else ''}")


def _chosen(found: argparse.Namespace) -> Iterator[str]:
    """Yield the command, and its action where it has some."""
    for name in ("command", "action"):
        value = getattr(found, name, None)
        if isinstance(value, str):
            yield value


def _hint(word: str, known: Iterable[str]) -> str:
    near = nearest_name(word.partition("=")[0], known, cutoff=0.6)
    return f"did you mean {near}?" if near else ""
