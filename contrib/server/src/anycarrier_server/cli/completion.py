"""``anycarrier completion SHELL``: a script that completes words, verbs and options, for bash, zsh and fish.

Written out once from the words' own data, so pressing Tab starts no Python.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Callable, Mapping
from importlib import import_module

from anycarrier import cli
from anycarrier.cli import Parser, about
from anycarrier_server.cli.arguments import CONNECTION, JSON, Option, Verb, Word, option

LONG = re.compile(r"(?<!\S)\[?(--[a-z][a-z-]*)")
SHELLS = ("bash", "zsh", "fish")

BASH = """\
# bash completion for anycarrier; put into ~/.bashrc: eval "$(anycarrier completion bash)"
_anycarrier() {{
    local here=${{COMP_WORDS[COMP_CWORD]}} word=${{COMP_WORDS[1]:-}} verb= found= one
    [ "$COMP_CWORD" -gt 2 ] && verb=${{COMP_WORDS[2]}}
    if [ "$COMP_CWORD" -eq 1 ]; then
        found="{words}"
    else
        case "$word ${{COMP_WORDS[COMP_CWORD-1]}}" in
{value_cases}
        *) case "$word $verb" in
{verb_cases}
            *) case "$word" in
{word_cases}
                esac ;;
            esac ;;
        esac
    fi
    COMPREPLY=()
    while IFS= read -r one; do
        [ -z "$one" ] || COMPREPLY+=("$one")
    done < <(compgen -W "$found" -- "$here")
}}
complete -o default -F _anycarrier anycarrier
"""

ZSH = """\
#compdef anycarrier
# zsh completion for anycarrier; put into ~/.zshrc, after compinit: eval "$(anycarrier completion zsh)"
_anycarrier() {{
    local -a found
    local verb=
    (( CURRENT > 3 )) && verb=$words[3]
    if (( CURRENT == 2 )); then
        found=({words})
    else
        case "$words[2] $words[CURRENT-1]" in
{value_cases}
        (*) case "$words[2] $verb" in
{verb_cases}
            (*) case "$words[2]" in
{word_cases}
                esac ;;
            esac ;;
        esac
    fi
    (( $#found )) && _describe anycarrier found || _files
}}
compdef _anycarrier anycarrier
"""


def tree() -> dict[str, Mapping[str, Verb]]:
    """Every word with its verbs; a word with a parser of its own has one verb, with what its help tells."""
    found: dict[str, Mapping[str, Verb]] = {}
    for name, command in cli.commands().items():
        module, _, name_there = command.target.partition(":")
        word = getattr(import_module(module), name_there)
        if isinstance(word, Word):
            found[name] = word.verbs
        elif name != "completion":
            options = _told(word)
            found[name] = {"": Verb(_nothing, command.purpose, [option(one) for one in options], connects=False)}
        else:
            found[name] = {"": Verb(_nothing, command.purpose, [option("shell", choices=SHELLS)], connects=False)}
    return found


async def _nothing() -> None: ...


def _told(run: Callable[[list[str]], int]) -> list[str]:
    """The long options a command's help names."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
        run(["--help"])
    return sorted(set(LONG.findall(said.getvalue())) - {"--help"})


def main(argv: list[str]) -> int:
    """Print the script."""
    parser = Parser(prog="anycarrier completion", description=about(__doc__))
    parser.add_argument("shell", choices=SHELLS)
    shell = parser.parse_args(argv).shell
    print({"bash": bash, "zsh": zsh, "fish": fish}[shell](), end="")
    return 0


def bash() -> str:
    """The bash script."""
    values, verbs, words = [], [], []
    for name, below in tree().items():
        for flag, given in _after(below):
            values.append(f'        "{name} {flag}") found="{" ".join(given)}" ;;')
        words.append(f'                {name}) found="{" ".join(_second(below))}" ;;')
        for verb_name, verb in below.items():
            if verb_name:
                verbs.append(f'            "{name} {verb_name}") found="{" ".join(_flags(verb))}" ;;')
    cases = {"value_cases": "\n".join(values), "verb_cases": "\n".join(verbs), "word_cases": "\n".join(words)}
    return BASH.format(words=" ".join(cli.commands()), **cases)


def zsh() -> str:
    """The zsh script, with purposes."""
    values, verbs, words = [], [], []
    for name, below in tree().items():
        for flag, given in _after(below):
            values.append(f'        ("{name} {flag}") found=({" ".join(map(_quoted, given))}) ;;')
        if "" in below:
            offered = " ".join(_quoted(flag) for flag in _second(below))
        else:
            offered = " ".join(_quoted(f"{verb}:{one.purpose}") for verb, one in below.items())
        words.append(f"                ({name}) found=({offered}) ;;")
        for verb_name, verb in below.items():
            if verb_name:
                flags = " ".join(_quoted(flag) for flag in _flags(verb))
                verbs.append(f'            ("{name} {verb_name}") found=({flags}) ;;')
    cases = {"value_cases": "\n".join(values), "verb_cases": "\n".join(verbs), "word_cases": "\n".join(words)}
    offered = " ".join(_quoted(f"{name}:{command.purpose}") for name, command in cli.commands().items())
    return ZSH.format(words=offered, **cases)


def fish() -> str:
    """The fish script, with purposes."""
    lines = [
        "# fish completion for anycarrier; save as ~/.config/fish/completions/anycarrier.fish",
        "function __anycarrier_at",
        "    set -l words (commandline -opc)",
        '    test (count $words) -ge 2; and test "$words[2]" = $argv[1]; or return 1',
        "    test (count $argv) -eq 1; and return (test (count $words) -eq 2)",
        '    test (count $words) -ge 3; and test "$words[3]" = $argv[2]',
        "end",
    ]
    for name, command in cli.commands().items():
        lines.append(f"complete -c anycarrier -f -n __fish_use_subcommand -a {name} -d {_quoted(command.purpose)}")
    for name, below in tree().items():
        for verb_name, verb in below.items():
            if verb_name:
                at = f"-n '__anycarrier_at {name}'"
                lines.append(f"complete -c anycarrier -f {at} -a {verb_name} -d {_quoted(verb.purpose)}")
            at = f"-n '__anycarrier_at {name} {verb_name}'" if verb_name else f"-n '__anycarrier_at {name}'"
            if values := _values(verb):
                lines.append(f"complete -c anycarrier -f {at} -a {_quoted(' '.join(values))}")
            for one in _options(verb):
                lines.append(f"complete -c anycarrier {at} {_fish(one)}")
    return "\n".join(lines) + "\n"


def _options(verb: Verb) -> list[Option]:
    ours = verb.run is not _nothing
    every = (*verb.options, *((JSON,) if ours else ()), *(CONNECTION if verb.connects else ()))
    return [one for one in every if one.flags[0].startswith("-")]


def _flags(verb: Verb) -> list[str]:
    """The verb's options, and the values its positions may have."""
    return [*_values(verb), *(one.flags[0] for one in _options(verb)), "--help"]


def _values(verb: Verb) -> list[str]:
    positions = [one for one in verb.options if not one.flags[0].startswith("-")]
    return [str(value) for one in positions for value in one.details.get("choices", ())]


def _after(below: Mapping[str, Verb]) -> list[tuple[str, list[str]]]:
    """What may follow an option, by option: its choices, or nothing of ours. A word's verbs agree on their options."""
    found: dict[str, list[str]] = {}
    for verb in below.values():
        for one in _options(verb):
            if verb.run is not _nothing and one.details.get("action") != "store_true":
                found[one.flags[0]] = [str(choice) for choice in one.details.get("choices", ())]
    return list(found.items())


def _second(below: Mapping[str, Verb]) -> list[str]:
    """What may follow a word."""
    return _flags(below[""]) if "" in below else list(below)


def _fish(one: Option) -> str:
    needs = "" if one.details.get("action") in ("store_true",) else " -r"
    choices = one.details.get("choices")
    offered = f" -f -a {_quoted(' '.join(map(str, choices)))}" if choices else ""
    described = f" -d {_quoted(one.details['help'])}" if one.details.get("help") else ""
    return f"-l {one.flags[0].removeprefix('--')}{needs}{offered}{described}"


def _quoted(value: str) -> str:
    """A single-quoted word; what a purpose quotes with an apostrophe is kept readable in all three shells."""
    return "'" + value.replace("\\", "").replace("'", "’").replace("%%", "%") + "'"
