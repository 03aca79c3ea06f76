"""The commands and their options, with the help that teaches them."""

from __future__ import annotations

import argparse
from typing import Any, NoReturn

from pixal.registry import MODELS
from pixal.version import __version__

DONE, FAILED, BAD_INPUT, INCOMPLETE, ANOMALY = range(5)

_PHOTOS = "folder of photographs: one sub-folder an image type, or the images of one type"
_PREPARED = "an .npz that make_input or validate wrote, or a folder of them"

_EPILOG = """\
exit status:
  0 done
  1 unexpected failure (--debug shows where)
  2 bad usage, configuration or input
  3 done, but some images could not be processed; each is named with its reason
  4 with --fail-on-anomaly, at least one part failed

a day's work:
  pixal preprocess -i photos/COMPONENT     good photographs, one folder an image type
  pixal train                              one model a type, or one for all (one_hot_encoding)
  pixal validate -i batch/COMPONENT        a verdict on every part; then open validate/COMPONENT/report.html
  mlflow ui                                the runs, where you started them

Settings are in configs/parameters.yaml and configs/paths.yaml. See also: pixal COMMAND --help
"""

_BENCHMARK = """\
Train and validate each class of a data set by itself; write master_results.csv.

ROOT holds a folder a class, laid out as in MVTec AD (CLASS/train/good, CLASS/test/KIND,
CLASS/ground_truth) or MVTec AD 2 (test_public), or is a batch that PIXAL rendered
(train/COMPONENT, production/COMPONENT, truth: a component is a class).

For each class in turn: preprocess, train, validate with its truth. The table has a row a class
(images, measures, seconds, status, reason) and a last one, the mean; it is written anew after each
class. Below DIR each class is a component: out/CLASS, and validate/CLASS with its report.html.

A run that was stopped goes on with the same command; a class that fails is a row with its reason.

  pixal benchmark -i mvtec --set model_training.model=gaussian -o gaussian
  pixal benchmark -i mvtec --classes bottle screw
"""


def build_parser() -> argparse.ArgumentParser:
    """The parser; what it gives has the ``command``'s name."""
    parser = _Parser(
        prog="pixal",
        description="Finds defects on photographs of hardware, from good examples alone.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"pixal {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_preprocessing(commands)
    _add_training(commands)
    _add_judging(commands)
    _add_probing(commands)
    _add_benchmark(commands)
    _add_demo(commands)
    return parser


def _add_preprocessing(commands: Any) -> None:
    for name, needed, text, about in (
        ("preprocess", True, "all of the three below: from photographs to network input", _PHOTOS),
        ("remove_bg", True, "find the part on each photograph, write it as RGBA", _PHOTOS),
        ("align", True, "align what remove_bg wrote to one reference a type", _PHOTOS),
        (
            "make_input",
            False,
            "crop, match the light, pool, and write out.npz",
            f"{_PHOTOS} (default: all types)",
        ),
    ):
        command = _command(commands, name, text)
        command.add_argument("-i", "--input", metavar="DIR", required=needed, help=about)
        command.add_argument(
            "--force",
            action="store_true",
            help="make everything again (default: what was made of the same files with the same settings stays)",
        )
        _workers_option(command)


def _add_training(commands: Any) -> None:
    command = _command(commands, "train", "train the model on out.npz, and calibrate it on held-out good parts")
    command.description = (
        f"{command.description} Model families (model_training.model): {', '.join(MODELS.class_paths())}."
    )
    command.add_argument(
        "-i",
        "--input",
        metavar="NPZ-or-DIR",
        help="an out.npz, or a folder of them (default: the component's)",
    )
    command.add_argument(
        "--resume",
        action="store_true",
        help="go on with a run that was cut short, from its last checkpoint; what is trained already stays",
    )
    command.add_argument(
        "--epochs",
        metavar="N",
        type=int,
        help="with --resume: train a model that is trained already N epochs more (of a family that is fitted once)",
    )


def _add_judging(commands: Any) -> None:
    command = _command(commands, "validate", "give every part of a batch a verdict; write tables, figures, report")
    command.add_argument("-i", "--input", metavar="DIR-or-IMAGE", required=True, help=f"{_PHOTOS}, or one image")
    command.add_argument(
        "--force",
        action="store_true",
        help="judge everything again (default: what was judged with the same model and settings stays)",
    )
    command.add_argument(
        "--watch",
        action="store_true",
        help="go on until Ctrl-C: judge new photographs as they come into the folder, when their files are complete, "
        "and keep tables and report up to date; started again, it goes on where it was "
        "(validation.watch_interval: seconds between two looks)",
    )
    _verdict_options(command)
    _workers_option(command)
    command.add_argument(
        "--model",
        metavar="TYPE",
        help="judge everything by the model of this type, in place of each type's own; "
        "COMPONENT/TYPE: of another component",
    )

    command = _command(
        commands, "detect", "give new verdicts on what validate has prepared (new thresholds, new model)"
    )
    command.add_argument(
        "-i", "--input", metavar="DIR", help="a folder that validate wrote (default: that of the component)"
    )
    _verdict_options(command)
    _workers_option(command)


def _add_probing(commands: Any) -> None:
    command = _command(commands, "encode", "write the latent vectors of photographs, for similarity search")
    command.description = (
        "Write what the model keeps of each photograph, a vector of a few numbers: for each type latents.npy (n, L), "
        "and manifest.csv, whose row n names the photograph of vector n. Photographs are prepared as training has left "
        "word. Parts that look alike have vectors that point the same way."
    )
    command.add_argument(
        "-i", "--input", metavar="DIR-or-IMAGE", required=True, help=f"{_PHOTOS}, one image, or {_PREPARED}"
    )
    command.add_argument(
        "-o",
        "--out",
        metavar="DIR",
        help="write DIR/TYPE/latents.npy, ... (default: latents_path in paths.yaml, out/COMPONENT/TYPE/latents)",
    )
    _workers_option(command)

    command = _command(commands, "evaluate", "measure how well the model reconstructs parts: MSE, MAE, SSIM")
    command.description = (
        "Measure how well the model reconstructs good parts, over the part's pixels and for each channel: mean squared "
        "error, mean absolute error, structural similarity (1: the same). Prints their means and standard deviations; "
        "writes metadata/evaluation.yaml, evaluation.csv (a row an image) and figures/evaluation_reconstructions.png."
    )
    command.add_argument(
        "-i",
        "--input",
        metavar="NPZ-or-DIR",
        help=f"{_PREPARED}, or photographs as for validate (default: what the component's models were trained with)",
    )
    command.add_argument(
        "--checkpoint",
        metavar="EPOCH-or-FILE",
        help="weights in place of the model's: of that epoch in model/checkpoints (model_training.checkpoint_every), "
        "or a .weights.h5 file",
    )
    command.add_argument(
        "--samples",
        metavar="N",
        type=_count,
        default=8,
        help="how many parts to draw, at random by the seed (default: 8)",
    )
    _workers_option(command)


def _add_benchmark(commands: Any) -> None:
    command = _command(commands, "benchmark", "train and validate each class of a data set; write master_results.csv")
    command.description = _BENCHMARK
    command.formatter_class = argparse.RawDescriptionHelpFormatter
    command.add_argument("-i", "--input", metavar="ROOT", required=True, help="the folder of the classes' folders")
    command.add_argument(
        "-o", "--out", metavar="DIR", default="benchmark", help="where everything goes (default: ./benchmark)"
    )
    command.add_argument("--classes", metavar="NAME", nargs="+", help="only these (default: all)")
    command.add_argument(
        "--force",
        action="store_true",
        help="run every class anew (default: one that is finished, of the same files with the same settings, stays)",
    )
    _workers_option(command)


def _add_demo(commands: Any) -> None:
    command = _command(commands, "demo", "render a small component with planted defects and run everything on it")
    command.add_argument("dir", nargs="?", default="pixal_demo", metavar="DIR", help="where (default: ./pixal_demo)")


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line; the usage is a --help away."""

    def error(self, message: str) -> NoReturn:
        """Exit as for any bad input."""
        self.exit(BAD_INPUT, f"pixal: error: {message} (see {self.prog} --help)\n")


def _command(commands: Any, name: str, text: str) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(
        name, help=text, description=f"{text[0].upper()}{text[1:]}.", epilog="exit status: see pixal --help"
    )
    command.set_defaults(command=name)
    command.add_argument("-q", "--quiet", action="store_true", help="no progress bars; warnings and errors only")
    command.add_argument(
        "-c",
        "--config",
        metavar="DIR",
        help="folder with parameters.yaml and paths.yaml (default: ./configs, else the shipped defaults)",
    )
    command.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override one parameter, as in model_training.n_epochs=100 (repeatable)",
    )
    command.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return command


def _verdict_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--truth",
        metavar="DIR",
        help="labels.csv (name,label[,kind]) and masks/NAME.png of each type, to measure against",
    )
    command.add_argument("--fail-on-anomaly", action="store_true", help="exit with status 4 when a part fails")


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 0")
    return int(text)


def _workers_option(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--workers",
        metavar="N",
        help="images worked on at a time (default: execution.workers, else one a processor); the results are the same",
    )
