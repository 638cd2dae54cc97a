"""The commands. What each takes is read off the model that it names: its fields, what it reads, its training, its questions."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from mudata import MuData

import scelbo
from scelbo import models, storage
from scelbo.cli import files
from scelbo.cli.compile import compile_loops
from scelbo.cli.options import Option, Parser, of_call, of_data, of_fields, of_plan, settle
from scelbo.data import Data
from scelbo.errors import ArgumentError, SetupError, unknown
from scelbo.model import MODELS, Model
from scelbo.whole import whole

QUESTIONS = {
    "latent": ("get_latent_representation",),
    "normalized": ("get_normalized_expression", "get_normalized_accessibility"),
    "predict": ("annotate", "get_doublets", "predict", "get_proportions"),
    "de": ("differential_expression", "differential_accessibility"),
}
"""Command -> what it asks: the first that the model answers."""
INTERRUPTED = 130
TRAINED, ASKED = "DATA -o FOLDER [options]", "[DATA] -o FILE [options]"


def _classes() -> dict[str, type[Model]]:
    """The models by their names in small letters."""
    return {name.casefold(): getattr(models, name) for name in models.__all__}


def _named(command: str, words: list[str], what: str, known: str) -> tuple[str, list[str]]:
    """The word that says which model; all options follow from it."""
    if not words or words[0] in ("-h", "--help"):
        parser = Parser(f"scelbo {command}", COMMANDS[command].__doc__, f"{what} ... [options]")
        parser.epilog = f"{known} Then: scelbo {command} {what} --help."
        parser.parse_args(words)
        parser.error(f"{what} is missing")
    if words[0].startswith("-"):
        raise ArgumentError(f"scelbo {command}: {what} comes before the options, not {words[0]!r}.", f"Call scelbo {command} --help.")
    return words[0], words[1:]


def _class_of(command: str, words: list[str]) -> tuple[type[Model], list[str]]:
    known = _classes()
    name, words = _named(command, words, "MODEL", f"MODEL is one of {', '.join(sorted(known))}.")
    if name.casefold() not in known:
        raise ArgumentError(unknown("model", name, sorted(known)))
    return known[name.casefold()], words


def _saved(command: str, words: list[str]) -> tuple[str, type[Model], list[str]]:
    folder, words = _named(command, words, "FOLDER", "FOLDER holds a model, as scelbo fit saves it.")
    name = storage.about(folder)["model"]
    if name not in MODELS:
        raise ArgumentError(unknown("model class", name, MODELS))
    return folder, MODELS[name], words


def _data_argument(parser: Parser, cls: type[Model], optional: bool = False) -> None:
    several = len([p for p in inspect.signature(cls).parameters if p.startswith("adata_")])
    said = f"{', '.join(files.READ)}{f'; {several} of them, in the order of its arguments' if several else ''}"
    parser.add_argument("data", nargs="*" if optional else "+", help=said, metavar="DATA")


def _output(parser: Parser, what: str) -> None:
    parser.add_argument("-o", "--out", required=True, help=what)
    parser.add_argument("--overwrite", action="store_true", help="replace what is there")


def _training(parser: Parser, cls: type[Model]) -> tuple[list[Option], list[Option]]:
    told = {name: value for name, value in vars(cls.training).items() if value is not None}
    return parser.group("training", of_call(cls.train, told)), parser.group("what moves the weights", of_plan(cls.plan))


def _train_and_save(model: Model, given: Any, training: dict[str, Any], plan: dict[str, Any]) -> int:
    model.train(**training, plan_kwargs=plan)
    model.save(given.out, overwrite=given.overwrite, save_anndata=given.save_data)
    return INTERRUPTED if model.outcome.get("reason") == "interrupted" else 0


# ---------------------------------------------------------------------- commands
def fit(words: list[str]) -> int:
    """Train a model and save it in a folder: scelbo fit MODEL DATA -o FOLDER."""
    cls, words = _class_of("fit", words)
    parser = Parser(f"scelbo fit {cls.__name__.lower()}", cls.__doc__, TRAINED)
    _data_argument(parser, cls)
    _output(parser, "folder to save the model in")
    parser.add_argument("--save-data", action="store_true", help="save the data in the folder too")
    maker = _maker(cls)
    if maker:
        parser.add_argument("--from", dest="base", metavar="FOLDER", help=f"the trained model that this one is made of ({maker.__name__})")
        parser.add_argument("--from-data", metavar="DATA", help="the cells of that model, where it can use them and they are others")
    keys = parser.group("what the data hold", of_data(cls.Cells))
    fields = parser.group("hyper-parameters", of_fields(cls))
    making = parser.group("how it is made of another model", of_call(maker) if maker else [])
    training, plan = _training(parser, cls)
    given, (key, field, made, how, move) = settle(parser, words, keys, fields, making, training, plan)
    files.free(given.out, given.overwrite)
    data = [files.read(path) for path in given.data]
    if maker and given.base:
        model = _made_of(maker, given, data[0], key, field | made)
    else:
        for each in data:
            _set_up(cls, each, dict(key))
        model = cls(*data, **field)
    return _train_and_save(model, given, how, move)


def _set_up(cls: type[Model], data: Data, keys: dict[str, Any]) -> None:
    if not isinstance(data, MuData):
        if "modalities" in keys:
            raise SetupError("--modalities is about a MuData (.h5mu), and the data are an AnnData.")
        cls.setup_anndata(data, **keys)
    else:
        cls.setup_mudata(data, **keys)


def _maker(cls: type[Model]) -> Callable[..., Any] | None:
    """What makes it of another trained model, if anything does."""
    return next((getattr(cls, name) for name in dir(cls) if name.startswith("from_") and name.endswith("_model")), None)


def _made_of(maker: Callable[..., Any], given: Any, data: Any, keys: dict[str, Any], more: dict[str, Any]) -> Any:
    takes = inspect.signature(maker).parameters
    own = files.read(given.from_data) if given.from_data else None
    if "anndata_setup_kwargs" in takes:
        return maker(data, scelbo.load(given.base, own), anndata_setup_kwargs=keys, **more)
    for name in keys:
        if name not in takes:
            raise ArgumentError(f"{Option(name, '').flag} comes with the model in {given.base!r}.", "Leave it out.")
    return maker(scelbo.load(given.base, data), **{**keys, **more})


def check(words: list[str]) -> int:
    """Say what is wrong with the data, and what training will take: scelbo check MODEL DATA."""
    cls, words = _class_of("check", words)
    parser = Parser(f"scelbo check {cls.__name__.lower()}", cls.check.__doc__, "DATA [options]")
    _data_argument(parser, cls)
    keys = parser.group("what the data hold", of_data(cls.Cells))
    forecast = parser.group("what is told", [o for o in of_call(cls.check) if o.name == "forecast"])
    given, (key, told) = settle(parser, words, keys, forecast)
    reports = [cls.check(files.read(path), **key, **told) for path in given.data]
    for report in reports:
        scelbo.settings.write(repr(report))
    return 0 if all(report.ok for report in reports) else 4


def prepare(words: list[str]) -> int:
    """Write cells once more, in random order, for training from disk: scelbo prepare DATA -o STORE.zarr."""
    parser = Parser("scelbo prepare", prepare.__doc__, "DATA -o STORE.zarr [options]")
    parser.add_argument("data", help=".h5ad, .zarr", metavar="DATA")
    parser.add_argument("-o", "--out", required=True, help="a new .zarr store")
    given, (more,) = settle(parser, words, parser.group("order", [o for o in of_call(scelbo.data.prepare) if o.name == "seed"]))
    scelbo.data.prepare(files.there(given.data), given.out, **more)
    return 0


def map_cells(words: list[str]) -> int:
    """Map new cells on a trained reference, and save their model: scelbo map FOLDER DATA -o FOLDER."""
    folder, cls, words = _saved("map", words)
    parser = Parser("scelbo map FOLDER", map_cells.__doc__, TRAINED)
    _data_argument(parser, cls)
    _output(parser, "folder to save the query's model in")
    parser.add_argument("--save-data", action="store_true", help="save the data in the folder too")
    load: Any = getattr(cls, "load_query_data", None)
    if load is None:
        able = [name for name, known in _classes().items() if hasattr(known, "load_query_data")]
        raise ArgumentError(f"{cls.__name__} maps no new cells on a reference.", f"These do: {', '.join(able)}.")
    kept = parser.group("what stays as the reference has it", [o for o in of_call(load) if o.name != "reference_model"])
    training, plan = _training(parser, cls)
    given, (freeze, how, move) = settle(parser, words, kept, training, plan)
    files.free(given.out, given.overwrite)
    return _train_and_save(load(files.read(given.data[0]), folder, **freeze), given, how, move)


def report(words: list[str]) -> int:
    """Write the page on how far a model is to be trusted: scelbo report FOLDER DATA -o PAGE.html."""
    folder, cls, words = _saved("report", words)
    ask = _question(cls, ("report",))
    parser = Parser("scelbo report FOLDER", getattr(cls, ask).__doc__, ASKED)
    _data_argument(parser, cls, optional=True)
    _output(parser, "a new .html file")
    given, (more,) = settle(parser, words, parser.group("how it is made", of_call(getattr(cls, ask))))
    to = files.free(given.out, given.overwrite)
    model = scelbo.load(folder, _one([files.read(path) for path in given.data]))
    with whole(to) as place:
        model.report(place, **more)
    return 0


def ask(words: list[str]) -> int:
    """Ask any question of Python's, by its name there: scelbo ask QUESTION FOLDER DATA -o FILE."""
    question, words = _named("ask", words, "QUESTION", "QUESTION is a method of the model, such as get_elbo.")
    folder, cls, words = _saved("ask", words)
    return _answered(f"ask {question}", folder, cls, (question.replace("-", "_"),), words)


def _asking(command: str) -> Callable[[list[str]], int]:
    def run(words: list[str]) -> int:
        folder, cls, words = _saved(command, words)
        return _answered(command, folder, cls, QUESTIONS[command], words)

    run.__doc__ = f"Ask a trained model, {' or '.join(QUESTIONS[command])}: scelbo {command} FOLDER DATA -o FILE."
    return run


def _question(cls: type[Model], names: tuple[str, ...]) -> str:
    found = next((name for name in names if callable(getattr(cls, name, None))), None)
    if found is None:
        there = [name for name in dir(cls) if not name.startswith("_") and name.islower() and name not in dir(Model) and name != "minify"]
        raise ArgumentError(unknown(f"{cls.__name__} question", names[0], [n for n in there if callable(getattr(cls, n))]))
    return found


def _answered(command: str, folder: str, cls: type[Model], names: tuple[str, ...], words: list[str]) -> int:
    name = _question(cls, names)
    method = getattr(cls, name)
    parser = Parser(f"scelbo {command} FOLDER", method.__doc__, ASKED)
    _data_argument(parser, cls, optional=True)
    _output(parser, "a new table (.csv, .tsv, also with .gz), or the data (.h5ad, .zarr) with the answer in it")
    parser.add_argument("--key", help="in these data: obsm['X_KEY'], or columns KEY_... of obs (default: the model's name)")
    given, (more,) = settle(parser, words, parser.group("the question", of_call(method)))
    to, takes = files.free(given.out, given.overwrite), inspect.signature(method).parameters
    data = [files.read(path) for path in given.data]
    model = scelbo.load(folder, _one(data) if "adata" not in takes else None)
    if "adata" in takes and data:
        more["adata"] = _one(data)
    if "out" in takes and files.ending(to) in (".h5ad", ".zarr"):
        with whole(to) as place:
            getattr(model, name)(**more, out=place)
        return 0
    answer = getattr(model, name)(**more)
    cells = [str(n) for each in (data or [model.source()]) for n in each.obs_names]
    files.write(answer, to, name.removeprefix("get_"), given.key or cls.__name__.lower(), given.data, cells)
    return 0


def _one(data: list[Any]) -> Any:
    return data[0] if len(data) == 1 else (data or None)


def convert(words: list[str]) -> int:
    """Bring a model of scvi-tools over, or take one there: scelbo convert FOLDER [DATA] -o FOLDER --to {scelbo,scvi-tools}."""
    parser = Parser("scelbo convert", convert.__doc__, "FOLDER [DATA] -o FOLDER --to {scelbo,scvi-tools}")
    parser.add_argument("folder", metavar="FOLDER", help="a model's, ours or scvi-tools'")
    parser.add_argument("data", nargs="?", metavar="DATA", help="its cells, which it keeps means of; it may go without")
    _output(parser, "folder to save the model in")
    parser.add_argument("--to", choices=("scelbo", "scvi-tools"), default="scelbo", help="whose format the new folder has")
    given = parser.parse_args(words)
    files.free(given.out, given.overwrite)
    model = scelbo.load(given.folder, files.read(given.data) if given.data else None)
    save = model.save if given.to == "scelbo" else model.save_as_scvi_tools
    save(given.out, overwrite=given.overwrite)
    return 0


def compile_ahead(words: list[str]) -> int:
    """Compile the loops of training and questions now, as after an installation: scelbo compile."""
    Parser("scelbo compile", compile_ahead.__doc__, "").parse_args(words)
    return compile_loops()


COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "check": check, "prepare": prepare, "fit": fit, "map": map_cells, **{name: _asking(name) for name in QUESTIONS},
    "report": report, "ask": ask, "convert": convert, "compile": compile_ahead,
}  # fmt: skip
