"""The command line: each stage of the job is a command, each command a function.

Options, types and help come from the function's signature and docstring. What a command needs is
imported when it is chosen, so that a search does not wait for torch.
"""

import inspect
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser

import rscontrast
from rscontrast.errors import RSContrastError, choose

FLAGS = ("dry_run", "replace_run")
"""Options that are true where they stand alone."""

LISTS = ("bands", "collections", "class_names", "place", "show", "splits")
"""Options that take names or numbers with commas between."""

type Text = str | int | list[float] | None
"""What an option given as text is once YAML has read it: ``toi: 2022`` is a number there."""


@dataclass(frozen=True)
class Command:
    """A stage as a command."""

    function: str
    """``module:function``."""
    help: str
    """One line."""
    examples: tuple[str, ...]
    """That work as they stand in a checkout, in order."""
    tables: tuple[str, ...] = ()
    """Parameters that the command takes as paths of GeoParquet: ``items``, ``pairs``."""
    writes: str | None = None
    """Name in :mod:`rscontrast.stac` of what writes the returned table to ``--out``."""
    text: tuple[str, ...] = ()
    """Parameters of many types that the command takes as text."""
    online: tuple[str, ...] = ()
    """Examples that work as they stand where the internet can be reached."""
    instead: str | None = None
    """Option with which the tables are not needed."""
    free: tuple[str, ...] = ()
    """Tables that the command can do without."""
    beside: str | None = None
    """``module:function`` whose further options are taken and left aside: its config fits."""
    cut: str = "what was finished stays usable"
    """What Ctrl-C leaves."""


SCENES = "--items runs/items.parquet --pairs runs/pairs.parquet"
LABELLED = "--items runs/items.parquet --pairs runs/labelled.parquet"

COMMANDS = {
    "search": Command(
        "rscontrast.stac:search",
        "find items in any STAC source",
        (
            "rscontrast search --source sample_data/catalog.json --collections scenes"
            " --out runs/items.parquet",
            "rscontrast search --source runs/items.parquet --toi 2022-06/2022-12"
            " --filter 'eo:cloud_cover < 20' --out runs/late.parquet",
        ),
        writes="write_items",
        text=("source", "aoi", "toi", "filter", "provider"),
        online=(
            "rscontrast search --source earth-search --collections sentinel-2-l2a"
            " --aoi 13.2,52.4,13.6,52.6 --toi 2023-06/2023-08 --filter 'eo:cloud_cover < 20'"
            " --out runs/berlin.parquet",
        ),
    ),
    "pairs": Command(
        "rscontrast.pairing:make_pairs",
        "pair the dates of each place by rules; draw the pairs and sum them up",
        (
            "rscontrast pairs --items runs/items.parquet --min_gap 30 --max_cloud 40"
            " --out runs/pairs.parquet",
            "rscontrast pairs --items runs/items.parquet --event 2022-08-15 --relation straddle"
            " --max_gap 60 --max_cloud 20 --out runs/labelled.parquet",
            "rscontrast pairs --items runs/items.parquet --preset moco-tp --max_per_place 10"
            " --quality 12 --bands red,nir --out runs/measured.parquet",
        ),
        tables=("items",),
        text=("event", "event_area", "preset"),
    ),
    "cache": Command(
        "rscontrast.caching:cache",
        "draw patches of pairs once, and keep them for many epochs",
        (
            f"rscontrast cache {SCENES} --bands blue,green,red,nir --length 128"
            " --out runs/cache.zarr",
        ),
        tables=("items", "pairs"),
        text=("provider",),
        cut="nothing was kept: a cache is written whole",
    ),
    "pretrain": Command(
        "rscontrast.stages:pretrain",
        "learn an encoder from pairs, without labels",
        (
            f"rscontrast pretrain {SCENES} --bands blue,green,red,nir --method false"
            " --epochs 2 --length 128 --out runs/encoder.pt",
            "rscontrast pretrain --cache runs/cache.zarr --method false --epochs 2"
            " --out runs/cached.pt",
        ),
        tables=("items", "pairs"),
        text=("provider",),
        instead="cache",
    ),
    "views": Command(
        "rscontrast.viewing:draw_views",
        "see what a pretraining would see: a few patches and their views as one picture",
        (
            f"rscontrast views {SCENES} --bands blue,green,red,nir --views.preset simclr"
            " --out runs/views.png",
            "rscontrast views --cache runs/cache.zarr --patches 6 --out runs/cached.png",
        ),
        tables=("items", "pairs"),
        text=("provider",),
        instead="cache",
        beside="rscontrast.stages:pretrain",
    ),
    "embed": Command(
        "rscontrast.embedding:embed",
        "write the embedding of each patch at each date as GeoParquet",
        (
            f"rscontrast embed {SCENES} --encoder runs/encoder.pt --patch_size 64"
            " --out runs/embeddings.parquet",
        ),
        tables=("items", "pairs"),
        text=("provider",),
        cut="nothing was kept: a table is written whole",
    ),
    "similar": Command(
        "rscontrast.products:similar",
        "find the places whose embeddings are most like those of a given one",
        (
            "rscontrast similar --embeddings runs/embeddings.parquet --place 12.02,46.0"
            " --count 5 --out runs/similar.parquet",
        ),
        text=("place", "toi"),
    ),
    "finetune": Command(
        "rscontrast.stages:finetune",
        "train a segmenter of two dates on labelled pairs",
        (
            f"rscontrast finetune {LABELLED} --label damage --encoder runs/encoder.pt"
            " --epochs 2 --length 32 --out runs/segmenter.pt",
            f"rscontrast finetune {LABELLED} --labels sample_data/buildings.geojson"
            " --class_names background,intact,minor,major,destroyed --encoder runs/encoder.pt"
            " --decoder linear --fusion concat --freeze_encoder true --loss ordinal"
            " --epochs 1 --length 16 --out runs/probe.pt",
        ),
        tables=("items", "pairs"),
        text=("provider",),
    ),
    "evaluate": Command(
        "rscontrast.mapping:evaluate",
        "score a segmenter on whole places",
        (
            f"rscontrast evaluate {LABELLED} --label damage --checkpoint runs/segmenter.pt"
            " --out runs/scores.json",
        ),
        tables=("items", "pairs"),
    ),
    "map": Command(
        "rscontrast.mapping.command:map_catalog",
        "map a catalog: COGs, a STAC catalog and polygons; a second run does what is missing",
        (
            f"rscontrast map {LABELLED} --checkpoint runs/segmenter.pt --out runs/maps",
            "rscontrast map --catalog sample_data/catalog.json --event 2022-08-15"
            " --checkpoint runs/segmenter.pt --dry_run",
            "rscontrast map --status runs/maps",
        ),
        tables=("items", "pairs"),
        text=("catalog", "aoi", "event", "pre", "post", "filter", "provider"),
        instead="catalog",
        free=("pairs",),
        cut="run the same command again: it does what is missing",
    ),
    "buildings": Command(
        "rscontrast.buildings:map_buildings",
        "grade the buildings of maps: footprints of a file, or those that the maps show",
        (
            "rscontrast buildings --maps runs/maps --footprints sample_data/buildings.geojson"
            " --out runs/buildings.parquet",
            "rscontrast buildings --maps runs/maps --min_area 50 --out runs/drawn.parquet",
        ),
        cut="nothing was kept: a table is written whole",
    ),
    "export": Command(
        "rscontrast.models.export:export",
        "write a segmenter for machines without this package, as ONNX or by torch.export",
        (
            "rscontrast export --checkpoint runs/segmenter.pt --out runs/segmenter.pt2"
            " --format torch --normalise true --size 96",
        ),
        cut="nothing was kept: a model is written whole",
    ),
    "demo": Command(
        "rscontrast.demo:demo",
        "do the whole job on a catalog with labels, and report on it",
        ("rscontrast demo --catalog sample_data/catalog.json --out demo_out",),
    ),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: words of the command line; default: those of the process.

    Returns:
        exit status: 0 done, 2 refused with one line on stderr, 130 interrupted; of ``map`` also 3
        where jobs failed and 4 where some are pending.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    name = words[0] if words else "--help"
    try:
        if name in ("-h", "--help"):
            print(_overview())
        elif name == "--version":
            print(rscontrast.__version__)
        else:
            return _run(choose("command", name, COMMANDS), words[1:])
    except (RSContrastError, ArgumentError) as error:
        print(f"rscontrast: {_one_line(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        cut = COMMANDS[name].cut if name in COMMANDS else Command.cut
        print(f"rscontrast: interrupted; {cut}", file=sys.stderr)
        return 130
    return 0


def _overview() -> str:
    lines = [f"  {name:<10}{command.help}" for name, command in COMMANDS.items()]
    head = "usage: rscontrast COMMAND [options]\n\n" + (rscontrast.__doc__ or "").split("\n")[0]
    tail = "rscontrast COMMAND --help shows its options and examples."
    return "\n".join([head, "", *lines, "", tail])


def _run(name: str, words: list[str]) -> int:
    command = COMMANDS[name]
    function = _named(command.function)
    parser, aside = _parser(name, command, function)
    values = {k: v for k, v in _values(parser, words).items() if k not in aside}
    out = values.pop("out") if command.writes else None
    if "seed" not in inspect.signature(function).parameters:
        values.pop("seed")
    for table in command.tables:
        if values[table] is not None:
            reader = getattr(import_module("rscontrast.stac"), f"read_{table}")
            values[table] = reader(values[table])
    for option in command.text:
        read = _area if option in AREAS else _text
        values[option] = read(values.pop(option))
    # An option that is not given is the function's own default.
    result = function(**{k: v for k, v in values.items() if k not in command.text or v is not None})
    if command.writes:
        getattr(import_module("rscontrast.stac"), command.writes)(result, out)
    print(_summary(name, result, out))
    return int(getattr(result, "exit_code", 0))


def _named(path: str) -> Callable[..., Any]:
    module, _, attribute = path.partition(":")
    function: Callable[..., Any] = getattr(import_module(module), attribute)
    return function


def _values(parser: ArgumentParser, words: list[str]) -> dict[str, Any]:
    try:
        options = parser.parse_args(_tidy(words)).as_dict()
    except (OSError, ValueError, TypeError, LookupError, AttributeError) as error:
        # What parsing a strange file or value raises beside the parser's own error.
        raise ArgumentError(None, str(error)) from error
    return {name: value for name, value in options.items() if name != "config"}


def _parser(
    name: str, command: Command, function: Callable[..., Any]
) -> tuple[ArgumentParser, list[str]]:
    """The parser, and the options that it takes but the function does not."""
    examples = "\n".join(f"  {example}" for example in command.examples + command.online)
    taken = ASIDE.format(command.beside.partition(":")[2]) if command.beside else ""
    parser = ArgumentParser(
        prog=f"rscontrast {name}",
        description=f"{command.help}{taken}\n\nexamples:\n{examples}",
        exit_on_error=False,
        formatter_class=_formatter(),
    )
    parser.add_argument("--config", action="config", help="YAML file with any of the options")
    by_hand: set[str | int] = {*command.tables, *command.text}
    for table in command.tables:
        known: dict[str, Any] = {"type": str, "help": f"GeoParquet of {table}", "required": True}
        if command.instead:
            known |= {"type": str | None, "required": False}
        if command.instead and table not in command.free:
            known["help"] += f"; not with --{command.instead}"
        parser.add_argument(f"--{table}", **known)
    for option in command.text:
        kind, needed = Text.__value__, option == "source"
        parser.add_argument(f"--{option}", type=kind, required=needed, help=HELP[option])
    if command.writes:
        parser.add_argument("--out", type=str, required=True, help="GeoParquet to write")
    own = parser.add_function_arguments(function, skip=by_hand, fail_untyped=False)
    aside = []
    if command.beside:
        aside = parser.add_function_arguments(_named(command.beside), skip={*by_hand, *own})
    if "seed" not in inspect.signature(function).parameters:
        parser.add_argument("--seed", type=int, default=0, help="nothing is drawn here")
    return parser, aside


ASIDE = (
    "\n\nA config of {0} can be given as it is: options that matter for {0} alone are left aside."
)
AREAS = ("aoi", "event_area", "place")
HELP = {
    "catalog": "instead of items: path or URL of an API or a catalog, or a provider's name",
    "pre": "times of the items before: 2022-05/2022-07",
    "post": "times of the items after: 2022-09",
    "source": "path or URL of an API, a catalog, items or stac-geoparquet; or a provider's name",
    "aoi": "area of interest: xmin,ymin,xmax,ymax in degrees, or a vector file",
    "place": "longitude,latitude, or xmin,ymin,xmax,ymax in degrees, or a vector file",
    "event_area": "where it happened: xmin,ymin,xmax,ymax in degrees, or a vector file",
    "filter": "condition on the properties in CQL2, text or JSON: 'eo:cloud_cover < 20'",
    "provider": "whose catalog it is: a name, or pkg.mod:PROVIDER",
    "preset": "rules of the literature: seco, caco, caco-long, moco-tp or ssl4eo",
    "toi": "time of interest: 2022, 2022-08, 2022-08-01 or start/end, '..' for an open side",
    "event": "when something happened: an ISO date or instant",
}


def _formatter() -> type:
    """Help that keeps the line breaks of the examples."""
    from argparse import RawDescriptionHelpFormatter

    from jsonargparse import DefaultHelpFormatter

    return type("Formatter", (RawDescriptionHelpFormatter, DefaultHelpFormatter), {})


def _tidy(words: list[str]) -> list[str]:
    """Bring every option to --its_name=value, and a,b,c to [a,b,c] for lists."""
    joined: list[str] = []
    for word in words:
        if word.startswith("--"):
            option, equals, value = word.partition("=")
            joined.append("--" + option[2:].replace("-", "_") + equals + value)
        elif joined and re.fullmatch("--[^=]+", joined[-1]) and word != "-h":
            # In a word of its own, argparse takes -70,-10 for an option.
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    joined = [f"{word}=true" if word[2:] in FLAGS else word for word in joined]
    return [re.sub(rf"^--({'|'.join(LISTS)})=([^\[].*)$", r"--\1=[\2]", word) for word in joined]


def _text(value: Text) -> str | None:
    return None if value is None else str(value)


def _area(value: Text) -> list[float] | str | None:
    text = _text(value)
    try:
        return text and [float(number) for number in text.strip("[]() ").split(",")]
    except ValueError:
        return text


def _one_line(error: Exception) -> str:
    text = re.sub(r"\s+", " ", str(error)).strip()
    return text if isinstance(error, RSContrastError) else f"argument: {text}"


def _summary(name: str, result: Any, out: object) -> str:
    if name == "search":
        from rscontrast.stac.index import instants

        times = instants(result)
        first, last = times.min(), times.max()
        return f"{len(result)} items, {first:%Y-%m-%d} to {last:%Y-%m-%d}: {out}"
    if name == "evaluate":
        return "\n\n".join(f"{pair}\n{scores.table()}" for pair, scores in result.items())
    return str(result)


if __name__ == "__main__":
    sys.exit(main())
