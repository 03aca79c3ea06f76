"""The parser of the command line: the commands, their options, and the help texts."""

from __future__ import annotations

import argparse
from functools import partial
from typing import TYPE_CHECKING, NoReturn

from pixal.commands.exit_status import ExitStatus
from pixal.commands.overview_parser import add_overview_commands
from pixal.errors import nearest_hint
from pixal.registry import DEFECTS, MODELS
from pixal.version import __version__

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction["_Parser"]

LOG_LEVELS = ("debug", "info", "warning", "error")

_PHOTOGRAPHS = "folder of photographs: one sub-folder per image type, or the photographs of one type"
_PREPARED = "an .npz that make_input or validate wrote, or a folder of them"

_EPILOG = """\
exit status:
  0 done
  1 unexpected failure (--debug shows where)
  2 bad usage, configuration or input
  3 done, but some images could not be processed; each is named with its reason
  4 with --fail-on-anomaly, at least one part failed

usual steps:
  pixal init COMPONENT                     write the folder of settings (configs)
  pixal inspect -i photos/COMPONENT        what is wrong with the photographs, before training
  pixal preprocess -i photos/COMPONENT     photographs of good parts, one folder per image type
  pixal train                              one model per type, or one for all (one_hot_encoding)
  pixal validate -i batch/COMPONENT        a verdict per part; then open validate/COMPONENT/report.html
  pixal status                             what is out of date, and the command to run next
  mlflow ui                                show the tracked runs; start it in the same folder

Settings are in configs/parameters.yaml and configs/paths.yaml. See also: pixal COMMAND --help
"""

_INSPECT = """\
Look at photographs before any training: what is damaged, out of focus, badly exposed, of another
size, unusual, or there twice. Each finding says what to do.

It works on any folder of photographs, and needs no model and no settings of a component.
Results: inspection.html (open this first), photographs.csv with one row per photograph and a
suggested use (train, check, leave out), and inspection.yaml for programs.

With --against it also compares light, colour, contrast, noise and sharpness with another folder,
for example new photographs with those for training, and names photographs that are in both.

  pixal inspect -i photos/COMPONENT
  pixal inspect -i photos/june --against photos/may
  pixal inspect -i archive --sample 200
"""

_SENSITIVITY = """\
Measure which defects the trained model finds, with defects planted on good parts.

Each good part of the training set is scored by a model that did not see it. For each kind of defect
this gives the size that is found in 9 of 10 cases, and a map of the places where only larger ones
are found. Results: metadata/sensitivity.yaml and figures/sensitivity.png, sensitivity_map.png.

The same command resumes an interrupted run.

  pixal sensitivity
  pixal sensitivity --kinds scratch spot --contrasts -0.15 --rates 0.05
"""

_COMPARE = """\
Train several models on the same good parts, and compare which planted defects they find.

All candidates hold out the same parts and see the same defects at the same places. The table says for
each how many it finds at the false-alarm rate (validation.false_alarm_rate), the area under the ROC
curve against good parts, time and memory, and how much better or worse it is than the first one, with
intervals. Results: metadata/comparison.yaml, comparison.csv and figures/comparison.png.

A candidate is a model family, settings that differ from the configured ones, or both. All settings
of model_training can differ but seed, calibration_folds and one_hot_encoding; of the others channels,
weights, pool_size, edge_margin, light_matching, map_smoothing and threshold.

The same command resumes an interrupted run. The models are kept in comparison/ in the folder of the
component; delete that folder to free its space.

  pixal compare
  pixal compare --candidate gaussian --candidate gaussian,map_smoothing=2 --candidate padim
  pixal compare --candidate channels=[LAB_L,GradMag] --candidate channels=ALL --kinds scratch spot
"""

_HISTORY = """\
Show how many parts failed in each batch, and when the rate changed.

All batches of the component count, the newest and those in validate/COMPONENT/batches. For each image
type, a control chart (p-chart) compares the failure rates: a rate outside its limits differs from the
others by more than chance. Drift that validate found is named with its batch.

validate writes each batch into a database, validate/COMPONENT/history.db, which any SQLite browser
opens. This command adds what is missing there, prints the rates, and writes history.html
(charts, and a map of the places where regions were found) and history.csv next to it.

  pixal history                                       all batches
  pixal history --by day --since 2026-11-01           one row per day, from November on
  pixal history --type front --json                   one image type, as JSON
"""

_BENCHMARK = """\
Train and validate each class of a data set; write master_results.csv.

ROOT contains one folder per class, in the layout of MVTec AD (CLASS/train/good, CLASS/test/KIND,
CLASS/ground_truth) or MVTec AD 2 (test_public). Or it is a batch that PIXAL rendered
(train/COMPONENT, production/COMPONENT, truth); then each component is a class.

Each class is preprocessed, trained, and validated against its truth. The table has one row per
class (images, measures, seconds, status, reason), and the mean as the last row. It is written
again after each class. In DIR each class is a component: out/CLASS, and validate/CLASS with its
report.html.

The same command resumes an interrupted run. A class that fails gets a row with the reason.

  pixal benchmark -i mvtec --set model_training.model=gaussian -o gaussian
  pixal benchmark -i mvtec --classes bottle screw
"""


def build_parser() -> argparse.ArgumentParser:
    """Build the parser. The parsed options have the name of the command as ``command``."""
    parser = _Parser(
        prog="pixal",
        description="Find defects on photographs of hardware. PIXAL learns from photographs of good parts only.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"pixal {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    add_overview_commands(partial(_add_command, commands))
    _add_inspect(commands)
    _add_preprocessing(commands)
    _add_train(commands)
    _add_validate(commands)
    _add_detect(commands)
    _add_encode(commands)
    _add_evaluate(commands)
    _add_sensitivity(commands)
    _add_compare(commands)
    _add_history(commands)
    _add_benchmark(commands)
    _add_demo(commands)
    return parser


def _add_inspect(commands: Commands) -> None:
    command = _add_command(
        commands, "inspect", "look at photographs before training: what is blurred, dark, there twice"
    )
    command.description = _INSPECT
    command.formatter_class = argparse.RawDescriptionHelpFormatter
    command.add_argument("-i", "--input", metavar="DIR", required=True, help=_PHOTOGRAPHS)
    command.add_argument("--against", metavar="DIR", help="compare with the photographs in this folder, type by type")
    command.add_argument(
        "--sample", metavar="N", type=_count, help="inspect N photographs of each type, chosen at random (default: all)"
    )
    command.add_argument(
        "-o", "--out", metavar="DIR", help="folder for the results (default: ./inspection/NAME, the name of the input)"
    )
    _add_workers(command)


def _add_preprocessing(commands: Commands) -> None:
    for name, required, text, input_help in (
        ("preprocess", True, "make the model input of photographs: remove_bg, align and make_input", _PHOTOGRAPHS),
        ("remove_bg", True, "find the part on each photograph; write RGBA images", _PHOTOGRAPHS),
        ("align", True, "align the images of remove_bg to one reference per type", _PHOTOGRAPHS),
        ("make_input", False, "crop, match the light, pool; write out.npz", f"{_PHOTOGRAPHS} (default: all types)"),
    ):
        command = _add_command(commands, name, text)
        command.add_argument("-i", "--input", metavar="DIR", required=required, help=input_help)
        command.add_argument(
            "--force",
            action="store_true",
            help="do all work again (default: skip work already done on the same files with the same settings)",
        )
        _add_workers(command)


def _add_train(commands: Commands) -> None:
    command = _add_command(commands, "train", "train the model on out.npz, and calibrate it on held-out good parts")
    families = ", ".join(MODELS.class_paths())
    command.description = (
        f"{command.description} Model families (model_training.model): {families}; or auto: the one that finds most "
        "planted defects, chosen within model_training.budget_s seconds."
    )
    command.add_argument(
        "-i",
        "--input",
        metavar="NPZ-or-DIR",
        help="an out.npz, or a folder of them (default: those of the component)",
    )
    command.add_argument(
        "--resume",
        action="store_true",
        help="resume an interrupted run from its last checkpoint; skip models that are finished",
    )
    command.add_argument(
        "--epochs",
        metavar="N",
        type=int,
        help="with --resume: train a finished model for N more epochs (some families have no epochs); the number of "
        "epochs of a training is --set model_training.n_epochs=N",
    )


def _add_validate(commands: Commands) -> None:
    command = _add_command(commands, "validate", "give each part of a batch a verdict; write tables, figures, report")
    command.add_argument(
        "-i",
        "--input",
        metavar="DIR-or-IMAGE",
        help=f"{_PHOTOGRAPHS}, or one image (default: those of the known batch --batch)",
    )
    command.add_argument(
        "--batch",
        metavar="NAME",
        help="name of the batch (default: the batch of the same photographs, or for a new one the name of their folder "
        "and the time of the first one); the results of the batch before are kept in validate/COMPONENT/batches",
    )
    command.add_argument(
        "--force",
        action="store_true",
        help="make all verdicts again (default: keep stored verdicts of the same photograph, model and settings)",
    )
    command.add_argument(
        "--watch",
        action="store_true",
        help="give new photographs in the folder a verdict when their files are complete, and keep tables and report "
        "up to date, until Ctrl-C; the same command resumes (validation.watch_interval: seconds between two looks at "
        "the folder)",
    )
    _add_verdict_options(command)
    _add_workers(command)
    command.add_argument(
        "--model",
        metavar="TYPE",
        help="use the model of this type for all photographs, instead of that of their own type; "
        "COMPONENT/TYPE: a model of another component",
    )


def _add_detect(commands: Commands) -> None:
    command = _add_command(
        commands, "detect", "repeat the verdicts on a batch that validate prepared (new threshold, new model)"
    )
    command.add_argument(
        "-i", "--input", metavar="DIR", help="a folder that validate wrote (default: that of the batch)"
    )
    command.add_argument("--batch", metavar="NAME", help="name of the batch (default: the newest one)")
    _add_verdict_options(command)
    _add_workers(command)


def _add_encode(commands: Commands) -> None:
    command = _add_command(commands, "encode", "write the latent vectors of photographs, for similarity search")
    command.description = (
        "Write the latent vector of each photograph: the few numbers that the model reduces it to. Each type gets "
        "latents.npy (n, L), and manifest.csv, whose row n names the photograph of vector n. Photographs are prepared "
        "with the settings stored at training. Parts that look alike have vectors of similar direction."
    )
    command.add_argument(
        "-i", "--input", metavar="DIR-or-IMAGE", required=True, help=f"{_PHOTOGRAPHS}, one image, or {_PREPARED}"
    )
    command.add_argument(
        "-o",
        "--out",
        metavar="DIR",
        help="write DIR/TYPE/latents.npy, ... (default: latents_path in paths.yaml, out/COMPONENT/TYPE/latents)",
    )
    _add_workers(command)


def _add_evaluate(commands: Commands) -> None:
    command = _add_command(commands, "evaluate", "measure how well the model reconstructs parts: MSE, MAE, SSIM")
    command.description = (
        "Measure how well the model reconstructs good parts, over the pixels of the part and for each channel: mean "
        "squared error, mean absolute error, structural similarity (1: identical). Print the means and standard "
        "deviations; write metadata/evaluation.yaml, evaluation.csv (one row per image) and "
        "figures/evaluation_reconstructions.png."
    )
    command.add_argument(
        "-i",
        "--input",
        metavar="NPZ-or-DIR",
        help=f"{_PREPARED}, or photographs as for validate (default: the parts that the models were trained on)",
    )
    command.add_argument(
        "--checkpoint",
        metavar="EPOCH-or-FILE",
        help="use other weights than those of the model: an epoch in model/checkpoints "
        "(model_training.checkpoint_every), or a .weights.h5 file",
    )
    command.add_argument(
        "--samples",
        metavar="N",
        type=_count,
        default=8,
        help="how many parts to draw, chosen at random from the seed (default: 8)",
    )
    _add_workers(command)


def _add_sensitivity(commands: Commands) -> None:
    command = _add_command(
        commands, "sensitivity", "measure which planted defects the trained model finds, from which size on"
    )
    command.description = _SENSITIVITY
    command.formatter_class = argparse.RawDescriptionHelpFormatter
    command.add_argument(
        "-i",
        "--input",
        metavar="NPZ-or-DIR",
        help="the out.npz that the model was trained on, or a folder of them (default: those of the component)",
    )
    _add_planted_defects(command, widths="1 to 6", sizes="2 to 24", contrasts="-0.4 -0.2 -0.1 0.1 0.2 0.4")
    command.add_argument(
        "--rates",
        metavar="R",
        nargs="+",
        type=float,
        default=[],
        help="further false-alarm rates to report, besides validation.false_alarm_rate",
    )
    command.add_argument(
        "--force",
        action="store_true",
        help="measure again (default: skip a type whose model was already measured with the same options)",
    )
    _add_workers(command)


def _add_compare(commands: Commands) -> None:
    command = _add_command(commands, "compare", "train several models, and compare which planted defects they find")
    command.description = _COMPARE
    command.formatter_class = argparse.RawDescriptionHelpFormatter
    command.add_argument(
        "-i",
        "--input",
        metavar="NPZ-or-DIR",
        help="an out.npz, or a folder of them (default: those of the component)",
    )
    command.add_argument(
        "--candidate",
        dest="candidates",
        metavar="FAMILY[,KEY=VALUE...]",
        action="append",
        default=[],
        help="a model to compare (repeatable, at least two); the first is the one that the others are compared with "
        "(default: the configured family, gaussian, padim, autoencoder)",
    )
    _add_planted_defects(command, widths="1 to 4", sizes="2 to 16", contrasts="-0.2 0.2")
    command.add_argument(
        "--force",
        action="store_true",
        help="score the defects again (default: skip a candidate that was already judged by the same defects)",
    )
    _add_workers(command)


def _add_planted_defects(command: argparse.ArgumentParser, *, widths: str, sizes: str, contrasts: str) -> None:
    """Add the options that say which defects are planted; the texts are their defaults."""
    kinds = ", ".join(DEFECTS.class_paths())
    command.add_argument("--kinds", metavar="KIND", nargs="+", help=f"kinds of defects (default: all): {kinds}")
    command.add_argument(
        "--sizes",
        metavar="PX",
        nargs="+",
        type=float,
        help=f"sizes in pixels of the reference (default: {widths} for the width of lines, {sizes} for others)",
    )
    command.add_argument(
        "--contrasts",
        metavar="C",
        nargs="+",
        type=float,
        help=f"contrasts against what lies beneath, below 0 for darker (default: {contrasts})",
    )
    command.add_argument(
        "--defects",
        metavar="N",
        type=_count,
        help="number of defects per kind, size and contrast; 20 or more recommended (default: 20)",
    )


def _add_history(commands: Commands) -> None:
    command = _add_command(commands, "history", "show failure rates of all batches, and when they changed")
    command.description = _HISTORY
    command.formatter_class = argparse.RawDescriptionHelpFormatter
    command.add_argument(
        "--by",
        metavar="WHAT",
        default="batch",
        help="count together by batch, day (of the photographs), type or model (default: batch)",
    )
    command.add_argument(
        "--type", dest="types", metavar="TYPE", nargs="+", help="count only these image types (default: all)"
    )
    command.add_argument(
        "--batch", dest="batches", metavar="NAME", nargs="+", help="count only these batches (default: all)"
    )
    command.add_argument(
        "--since", metavar="DAY", help="count photographs taken from this day or time on, for example 2026-11-28"
    )
    command.add_argument(
        "--until", metavar="DAY", help="count photographs taken up to the end of this day, or this time"
    )
    command.add_argument(
        "--marks",
        metavar="CSV",
        help="first store the marks that were exported from a report.html; the rates then say how many failed parts "
        "were false alarms, and how many that passed were missed",
    )
    command.add_argument("--json", action="store_true", help="print JSON, and write no files")
    command.add_argument(
        "--rebuild",
        action="store_true",
        help="make the database again from the files of the batches; batches whose folder was deleted are forgotten, "
        "marks are kept",
    )


def _add_benchmark(commands: Commands) -> None:
    command = _add_command(
        commands, "benchmark", "train and validate each class of a data set; write master_results.csv"
    )
    command.description = _BENCHMARK
    command.formatter_class = argparse.RawDescriptionHelpFormatter
    command.add_argument("-i", "--input", metavar="ROOT", required=True, help="folder with one folder per class")
    command.add_argument(
        "-o", "--out", metavar="DIR", default="benchmark", help="folder for all output (default: ./benchmark)"
    )
    command.add_argument("--classes", metavar="NAME", nargs="+", help="run only these classes (default: all)")
    command.add_argument(
        "--force",
        action="store_true",
        help="run all classes again (default: skip a class that is finished, with the same files and settings)",
    )
    _add_workers(command)


def _add_demo(commands: Commands) -> None:
    command = _add_command(
        commands, "demo", "render photographs of a small component with defects, and run all steps on them"
    )
    command.add_argument(
        "--task",
        metavar="NAME",
        help="demonstrate another task: charge_clusters simulates tracks in a pixel sensor (default: photographs)",
    )
    command.add_argument(
        "dir", nargs="?", default="pixal_demo", metavar="DIR", help="folder for all output (default: ./pixal_demo)"
    )


class _Parser(argparse.ArgumentParser):
    """Parser that reports an error in one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        """Exit with the status of bad input."""
        self.exit(ExitStatus.BAD_INPUT, f"pixal: error: {message} (see {self.prog} --help)\n")

    def _check_value(self, action: argparse.Action, value: object) -> None:
        """Refuse a value that is not one of the choices, and name the nearest one."""
        if action.choices is not None and value not in action.choices:
            choices = [str(choice) for choice in action.choices]
            hint = nearest_hint(str(value), choices)
            raise argparse.ArgumentError(action, f"{str(value)!r} is not one of {', '.join(choices)}{hint}")


def _add_command(commands: Commands, name: str, text: str) -> argparse.ArgumentParser:
    """Add a command with the options that all commands have."""
    command = commands.add_parser(
        name, help=text, description=f"{text[0].upper()}{text[1:]}.", epilog="exit status: see pixal --help"
    )
    command.set_defaults(command=name)
    command.add_argument("-q", "--quiet", action="store_true", help="show no progress bars; only warnings and errors")
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
        help="override a setting, for example model_training.n_epochs=100 (repeatable)",
    )
    command.add_argument(
        "--log-level",
        choices=LOG_LEVELS,
        help="show messages from this level on (default: info; with --quiet: warning)",
    )
    command.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return command


def _add_verdict_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--truth",
        metavar="DIR",
        help="measure the verdicts against the truth in this folder: labels.csv (name,label[,kind]) and masks/NAME.png "
        "of each type",
    )
    command.add_argument("--fail-on-anomaly", action="store_true", help="exit with status 4 if a part fails")


def _add_workers(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--workers",
        metavar="N",
        help="number of images processed at the same time (default: execution.workers, else one per processor); "
        "the results are the same",
    )


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0")
    return int(text)
