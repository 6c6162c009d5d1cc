"""`paretoseg completion`: a script that completes commands, options and keys of a study in bash and zsh."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, get_args

from trial_runner.cli.console import say

if TYPE_CHECKING:
    from pydantic import BaseModel

    from trial_runner.cli.parser import Parser

HELP = "Print a completion script: paretoseg completion bash > ~/.local/share/bash-completion/completions/paretoseg"

_BASH = """\
# Completion of paretoseg in bash{zsh_note}, written by `paretoseg completion`.
_paretoseg() {{
    local current="${{COMP_WORDS[COMP_CWORD]}}" previous="${{COMP_WORDS[COMP_CWORD-1]}}" command="${{COMP_WORDS[1]}}"
    local words="" actions=""
    if [ "$COMP_CWORD" -eq 1 ]; then
        words="{commands} --help --version"
    elif [ "$previous" = "--set" ]; then
        compopt -o nospace 2>/dev/null
        COMPREPLY=($(compgen -S = -W "{keys}" -- "$current"))
        return
    else
        case "$command $previous" in
{choices}
        esac
        if [ -z "$words" ]; then
            case "$command" in
{options}
            esac
            case "$current" in
                -*) ;;
                *) COMPREPLY=($(compgen -f -- "$current") $(compgen -W "$actions" -- "$current"))
                   compopt -o filenames 2>/dev/null
                   return ;;
            esac
        fi
    fi
    COMPREPLY=($(compgen -W "$words" -- "$current"))
}}
complete -F _paretoseg paretoseg
"""
_ZSH = """\
#compdef paretoseg
autoload -Uz bashcompinit && bashcompinit
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to its parser."""
    parser.add_argument("shell", choices=("bash", "zsh"))


def run(arguments: argparse.Namespace) -> int:
    """Run the command; return its exit status."""
    from trial_runner.config.study import StudyConfig

    say(completion_script(arguments.parser, arguments.shell, list(_keys(StudyConfig))).rstrip("\n"))
    return 0


def completion_script(parser: Parser, shell: str, keys: list[str]) -> str:
    """Return the script for ``bash`` or ``zsh``; ``keys`` are offered after ``--set``."""
    commands = parser.parsers_below()
    options, choices = [], []
    for name, command in commands.items():
        below = command.parsers_below()
        words = dict.fromkeys(option for one in (command, *below.values()) for option in one.options())
        options.append(f'                {name}) words="{" ".join(words)}" actions="{" ".join(below)}" ;;')
        for option, values in _choices(command, *below.values()).items():
            choices.append(f'            "{name} {option}") words="{" ".join(values)}" ;;')
    script = _BASH.format(
        zsh_note=" and zsh" if shell == "zsh" else "",
        commands=" ".join(commands),
        keys=" ".join(keys),
        options="\n".join(options),
        choices="\n".join(choices),
    )
    return f"{_ZSH}{script}" if shell == "zsh" else script


def _choices(*parsers: Parser) -> Mapping[str, list[str]]:
    found: dict[str, list[str]] = {}
    for parser in parsers:
        for action in parser._actions:
            if action.choices is not None and action.option_strings:
                found |= {option: list(map(str, action.choices)) for option in action.option_strings}
    return found


def _keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Yield the keys of a study's YAML, ``section.key``."""
    from pydantic import BaseModel

    for name, field in model.model_fields.items():
        kinds: tuple[Any, ...] = (field.annotation, *get_args(field.annotation))
        section = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)
        if section is None:
            yield f"{prefix}{name}"
        else:
            yield from _keys(section, f"{prefix}{name}.")
