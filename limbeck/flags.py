"""A verb's signature is its command line: what tyro makes of it, how --help groups it, what shells complete."""

import dataclasses
import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from limbeck.errors import InputError
from limbeck.recipe import nearest
from limbeck.results import Result
from limbeck.runs import RECIPES, Tell

SHELLS = ("bash", "zsh", "fish")
NETS = ("dsodenet20", "odenet20", "resnet20", "dsodenet_l", "mlperf_resnet8", "mlperf_mobilenetv1_025", "resnet8")
"""Nets of ours that shells offer: the students of limbeck zoo, and a teacher; `nets` would load torch."""
MAIN = {
    "teach": ("data", "model", "out", "pretrained", "epochs", "batch", "size", "resume"),
    "distill": ("data", "student", "teachers", "labels", "out", "epochs", "size", "resume"),
    "adapt": ("target", "source", "source_free", "out", "method", "teachers", "epochs", "resume"),
}
"""The flags that --help shows of verbs that have some forty; --help-all shows all."""


def function_of(verb: str) -> Callable[..., Result]:
    """Return the function that a verb is."""
    name = verb.replace("-", "_")
    function: Callable[..., Result] = getattr(importlib.import_module(f"limbeck.verbs.{name}"), name)
    return function


def perform(verb: str, arguments: list[str], tell: Tell) -> Result:
    """Do what `limbeck VERB ARGUMENTS` does, and return its result: how a verb is made of others."""
    function = function_of(verb)
    return function(**parse(function, arguments), tell=tell)


def word(name: str) -> str:
    """Return a parameter's name as it is typed: `for_`, which Python does not allow without its line, is for."""
    return name.removesuffix("_").replace("_", "-")


def kinds(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the types of a verb's keywords, those of its settings dataclass among them."""
    found: dict[str, Any] = {}
    for name in inspect.signature(function).parameters:
        kind = get_type_hints(function)[name]
        if dataclasses.is_dataclass(kind):
            hints = get_type_hints(kind)
            found |= {field.name: hints[field.name] for field in dataclasses.fields(kind)}
        else:
            found[name] = kind
    found.pop("tell", None)
    return {name.removesuffix("_"): kind for name, kind in found.items()}


def words(function: Callable[..., Any]) -> list[inspect.Parameter]:
    """Return the parameters that take no flag: those before `*`."""
    return [p for p in inspect.signature(function).parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]


def parse(function: Callable[..., Any], arguments: list[str], given: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the keywords that `arguments` give a verb. Its parameters before `*` are words without a flag, for which
    `given` has other defaults; the fields of a settings dataclass are flags of their own, shown in its groups. Exits
    with 2 and a hint where they don't fit."""
    import tyro

    hints, positional = get_type_hints(function), {p.name for p in words(function)}
    verb = function.__name__.replace("_", "-")
    main = MAIN.get(verb) if "--help-all" not in arguments and {"-h", "--help"} & set(arguments) else None
    arguments = ["--help" if argument == "--help-all" else argument for argument in arguments]
    text = inspect.cleandoc(function.__doc__ or "").partition("\nArgs:")[0]
    if main is not None:
        text += f"\nThese are the flags that are needed most; limbeck {verb} --help-all shows all.\n"
    asked: list[_Asked] = []
    parts: dict[str, list[str]] = {}  # the groups of a settings dataclass, by parameter
    for p in inspect.signature(function).parameters.values():
        kind, default = hints[p.name], (given or {}).get(p.name, p.default)
        if dataclasses.is_dataclass(kind):
            groups = _groups(p.name, kind, default, main)
            parts[p.name] = [name for name, _, _ in groups]
            asked += groups
        elif p.name != "tell":
            shown = _as_word(p.name, kind, default) if p.name in positional else _silent_where_empty(kind, default)
            if p.name.endswith("_"):
                shown = Annotated[shown, tyro.conf.arg(name=word(p.name))]
            hidden = main is not None and p.name not in {*main, *positional}
            asked.append((p.name, Annotated[shown, tyro.conf.Suppress] if hidden else shown, default))

    def collect(**values: Any) -> dict[str, Any]:  # noqa: ANN401 - of the verb's types
        left = vars(values.pop("recipe"))  # `cli` has taken what is known of it
        if left["config"] is not None or left["print_config"]:
            raise InputError(
                "-c or --print-config is written in a form that is not recognised; write -c FILE, with a space"
            )
        for name, groups in parts.items():
            fields = [vars(values.pop(group)) for group in groups]
            values[name] = hints[name](**{key: value for part in fields for key, value in part.items()})
        return values

    every_verbs, none = _recipe_flags()
    asked.append(("recipe", every_verbs if main is None else Annotated[every_verbs, tyro.conf.Suppress], none))
    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [inspect.Parameter(n, keyword, annotation=kind, default=default) for n, kind, default in asked]
    collect.__signature__ = inspect.Signature(parameters, return_annotation=dict)  # type: ignore[attr-defined]
    collect.__annotations__ = {name: kind for name, kind, _ in asked}
    collect.__doc__ = function.__doc__
    return tyro.cli(
        collect,
        prog=f"limbeck {verb}",
        description=text,
        args=arguments,
        config=(
            tyro.conf.OmitArgPrefixes,
            tyro.conf.AvoidSubcommands,
            tyro.conf.DisallowNone,
        ),
    )


_Asked = tuple[str, Any, Any]  # name, type, default


def _groups(name: str, kind: Any, default: Any, main: Sequence[str] | None = None) -> list[_Asked]:  # noqa: ANN401 - a settings dataclass
    """Return the GROUPS of a settings dataclass, each as a dataclass of its own, as --help has a box for each; all
    fields together where it has no GROUPS. Fields that are not `main` are hidden, where it is given."""
    import tyro

    hints, texts = get_type_hints(kind), described(kind)
    every = {name: tuple(field.name for field in dataclasses.fields(kind))}
    found: list[_Asked] = []
    for group, names in getattr(kind, "GROUPS", every).items():
        values = {name: getattr(default, name) for name in names}
        fields = [
            (name, Annotated[_silent_where_empty(hints[name], value), tyro.conf.arg(help=texts[name])])
            for name, value in values.items()
        ]
        if main is not None:
            fields = [(n, one if n in main else Annotated[one, tyro.conf.Suppress]) for n, one in fields]
        text = "" if hasattr(kind, "GROUPS") else kind.__doc__
        part = dataclasses.make_dataclass(group, fields, frozen=True, namespace={"__doc__": text})
        found.append((group, part, part(**values)))
    return found


def _as_word(name: str, kind: Any, default: Any) -> Any:  # noqa: ANN401 - a type
    import tyro

    several = any(get_origin(part) is tuple for part in (kind, *get_args(kind)))
    shown = f"[{name.upper()} ...]" if several else name.upper()
    hint = "" if default in (None, ()) or several else None  # tyro's own would be "(default: )" where none is
    return Annotated[kind, tyro.conf.Positional, tyro.conf.arg(metavar=shown, help_behavior_hint=hint)]


def _silent_where_empty(kind: Any, default: Any) -> Any:  # noqa: ANN401 - a type
    """Return the type, annotated so that --help has no "(default: None)"."""
    import tyro

    return Annotated[kind, tyro.conf.arg(help_behavior_hint="")] if default in (None, ()) else kind


def _recipe_flags() -> tuple[Any, Any]:
    """Return a type whose fields are the flags that every verb has, and its default."""
    import tyro

    config = Annotated[str | None, tyro.conf.arg(
        aliases=["-c"], help="Begin with the settings in a recipe; flags override them.", help_behavior_hint="",
    )]  # fmt: skip
    shown = Annotated[bool, tyro.conf.FlagCreatePairsOff, tyro.conf.arg(
        help="Print the settings that the command would have, as a recipe, and stop.", help_behavior_hint="",
    )]  # fmt: skip
    result = Annotated[bool, tyro.conf.FlagCreatePairsOff, tyro.conf.arg(
        help="Print the result as JSON, which a pipe or a file gets anyway.", help_behavior_hint="",
    )]  # fmt: skip
    quiet = Annotated[bool, tyro.conf.FlagCreatePairsOff, tyro.conf.arg(
        help="Print neither progress nor tables.", help_behavior_hint="",
    )]  # fmt: skip
    fields = [("config", config), ("print_config", shown), ("json", result), ("quiet", quiet)]
    kind = dataclasses.make_dataclass("recipe", fields, namespace={"__doc__": ""})
    return kind, kind(None, False, False, False)


def described(thing: Any) -> dict[str, str]:  # noqa: ANN401 - a verb or a settings dataclass
    """Return what the docstrings of a function or a dataclass say of its parameters or fields, inherited ones too."""
    import docstring_parser  # tyro's own

    parts = reversed(thing.__mro__[:-1]) if isinstance(thing, type) else (inspect.unwrap(thing),)
    every = [p for part in parts for p in docstring_parser.parse_from_object(part).params]
    return {p.arg_name: " ".join((p.description or "").split()) for p in every}


@dataclasses.dataclass(frozen=True)
class _Flag:
    name: str  # without its dashes
    choices: tuple[str, ...]
    switch: bool  # takes no value
    text: str
    names: tuple[str, ...] = ()  # that are offered beside files


_OF_EVERY_VERB = [
    _Flag("config", (), False, "Begin with the settings in a recipe."),
    _Flag("print-config", (), True, "Print the settings as a recipe, and stop."),
    _Flag("json", (), True, "Print the result as JSON, which a pipe or a file gets anyway."),
    _Flag("quiet", (), True, "Print neither progress nor tables."),
    _Flag("help", (), True, "Show help."),
    _Flag("help-all", (), True, "Show help with every flag."),
]


def _own(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the types of a verb's own flags, by name without dashes."""
    left_out = {"return", *(p.name for p in words(function))}
    return {name.replace("_", "-"): kind for name, kind in kinds(function).items() if name not in left_out}


def _flags(function: Callable[..., Any]) -> list[_Flag]:
    """Return the flags of a verb, those of every verb last."""
    texts = described(function)
    for kind in get_type_hints(function).values():
        texts |= described(kind) if dataclasses.is_dataclass(kind) else {}
    found: list[_Flag] = []
    texts = {word(name): text for name, text in texts.items()}
    for flag, kind in _own(function).items():
        found.append(_Flag(flag, _choices(kind), kind is bool, texts.get(flag, "")))
        found += [_Flag(f"no-{flag}", (), True, f"The opposite of --{flag}.")] if kind is bool else []
    return found + _OF_EVERY_VERB


def refuse_unknown(function: Callable[..., Any], arguments: Sequence[str]) -> None:
    """Raise InputError for a flag that the verb does not have, with ours for another tool's."""
    own = _own(function)  # without their texts, which take long to read
    known = {*own, *(f"no-{flag}" for flag, kind in own.items() if kind is bool), *(one.name for one in _OF_EVERY_VERB)}
    for argument in arguments:
        name = argument.partition("=")[0]
        if name.startswith("--") and len(name) > 2 and name[2:].replace("_", "-") not in known:
            near = nearest(name[2:], known).replace("'", "'--", 1)
            verb = function.__name__.replace("_", "-")
            raise InputError(f"there is no {name}{near}; limbeck {verb} --help lists its flags")


def _choices(kind: Any) -> tuple[str, ...]:  # noqa: ANN401 - a type
    if get_origin(kind) is Literal:
        return tuple(map(str, get_args(kind)))
    return tuple(choice for part in get_args(kind) for choice in _choices(part))


def completion(shell: str, verbs: Mapping[str, tuple[str, Callable[..., Any]]]) -> str:
    """Return a script for one of SHELLS that completes verbs, given with what they do and who does it; their flags;
    the choices of these; names of nets and recipes beside files; and files for all else. It asks no Python when it
    runs."""
    recipes = tuple(path.stem for path in sorted(RECIPES.glob("*.toml")))
    names = {"model": NETS, "student": NETS, "teachers": NETS, "config": recipes}
    flags = {
        verb: [dataclasses.replace(flag, names=names.get(flag.name, ())) for flag in _flags(function)]
        for verb, (_, function) in verbs.items()
    }
    texts = {verb: text for verb, (text, _) in verbs.items()}
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell](texts, flags)


def _bash(verbs: Mapping[str, str], flags: Mapping[str, list[_Flag]]) -> str:
    every = [(verb, flag) for verb, found in flags.items() for flag in found]
    choices = [f'      "{verb} --{f.name}") offered="{" ".join(f.choices)}" ;;' for verb, f in every if f.choices]
    choices += [
        f'      "{verb} --{f.name}") offered="{" ".join(f.names)}" files=yes ;;' for verb, f in every if f.names
    ]
    listed = [f'        {verb}) offered="{" ".join(f"--{f.name}" for f in found)}" ;;' for verb, found in flags.items()]
    return f"""# Put it to use in this shell:  source <(limbeck --completion bash)
_limbeck() {{
  local current="${{COMP_WORDS[COMP_CWORD]}}" before="${{COMP_WORDS[COMP_CWORD-1]}}" offered="" files=""
  if [ "$COMP_CWORD" -eq 1 ]; then
    offered="{" ".join(verbs)} --help --version --completion"
  else
    case "${{COMP_WORDS[1]}} $before" in
{chr(10).join(choices)}
    esac
    if [ "${{current#-}}" != "$current" ]; then
      case "${{COMP_WORDS[1]}}" in
{chr(10).join(listed)}
      esac
    fi
  fi
  COMPREPLY=($(compgen -W "$offered" -- "$current"))
  if [ -n "$files" ]; then
    local file
    while IFS= read -r file; do COMPREPLY+=("$file"); done < <(compgen -f -- "$current")
    compopt -o filenames 2> /dev/null
  fi
}}
complete -o bashdefault -o default -F _limbeck limbeck
"""


def _zsh(verbs: Mapping[str, str], flags: Mapping[str, list[_Flag]]) -> str:
    def plain(text: str) -> str:
        """Return the text as it may stand in quotes and brackets."""
        for letter, escaped in (("\\", "\\\\"), ("[", "\\["), ("]", "\\]"), (":", "\\:"), ("'", "'\\''")):
            text = text.replace(letter, escaped)
        return text

    def spec(flag: _Flag) -> str:
        value = "" if flag.switch else f":value:({' '.join(flag.choices)})" if flag.choices else ":value:_files"
        if flag.names:
            value = f":value: _limbeck_names {' '.join(flag.names)}"
        return f"'--{flag.name}[{plain(flag.text)}]{value}'"

    named = " ".join(f"'{verb}:{plain(text)}'" for verb, text in verbs.items())
    cases = [f"    {verb}) _arguments {' '.join(map(spec, found))} '*:file:_files' ;;" for verb, found in flags.items()]
    return f"""#compdef limbeck
# Put it to use in this shell:  source <(limbeck --completion zsh)
_limbeck_names() {{
  _alternative "names:name:($*)" files:file:_files
}}
_limbeck() {{
  if (( CURRENT == 2 )); then
    local -a verbs
    verbs=({named})
    _describe verb verbs
    return
  fi
  shift words
  (( CURRENT-- ))
  case $words[1] in
{chr(10).join(cases)}
  esac
}}
if [ "$funcstack[1]" = _limbeck ]; then _limbeck "$@"; else compdef _limbeck limbeck; fi
"""


def _fish(verbs: Mapping[str, str], flags: Mapping[str, list[_Flag]]) -> str:
    def quoted(text: str) -> str:
        return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"

    def line(verb: str, flag: _Flag) -> str:
        value = "" if flag.switch else f" -x -a {quoted(' '.join(flag.choices))}" if flag.choices else " -r"
        if flag.names:
            value = f" -r -a {quoted(' '.join(flag.names))}"
        return f"{begun} -n '__fish_seen_subcommand_from {verb}' -l {flag.name}{value} -d {quoted(flag.text)}"

    begun = "complete -c limbeck"
    lines = [f"{begun} -n __fish_use_subcommand -f -a {verb} -d {quoted(text)}" for verb, text in verbs.items()]
    lines += [line(verb, flag) for verb, found in flags.items() for flag in found]
    return "# Put it to use in this shell:  limbeck --completion fish | source\n" + "\n".join(lines) + "\n"
