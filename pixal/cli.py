"""The command line: parse, call one function, turn errors into exit statuses."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from typing import Any, NoReturn

import pixal
from pixal.errors import InputError, PixalError
from pixal.families import families

DONE, FAILED, BAD_INPUT, INCOMPLETE, ANOMALY = range(5)

_WORKERS = ("execution.workers", "preprocessing.remove_background.max_workers")  # what --workers sets

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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status."""
    options = _parser().parse_args(arguments)
    _set_up_logging(options.quiet)
    try:
        return int(options.run(options))
    except PixalError as error:
        if options.debug:
            traceback.print_exc()
        return _say(BAD_INPUT, f"pixal: error: {error}")
    except KeyboardInterrupt:
        return _say(FAILED, "pixal: interrupted")
    except Exception as error:
        if options.debug:
            traceback.print_exc()
        text = " ".join(str(error).split()) or type(error).__name__
        return _say(FAILED, f"pixal: unexpected failure: {type(error).__name__}: {text} (--debug shows where)")


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line; the usage is a --help away."""

    def error(self, message: str) -> NoReturn:
        """Exit as for any bad input."""
        self.exit(BAD_INPUT, f"pixal: error: {message} (see {self.prog} --help)\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="pixal",
        description="Finds defects on photographs of hardware, from good examples alone.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"pixal {pixal.__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    photos = "folder of photographs: one sub-folder an image type, or the images of one type"
    for name, needed, text, about in (
        ("preprocess", True, "all of the three below: from photographs to network input", photos),
        ("remove_bg", True, "find the part on each photograph, write it as RGBA", photos),
        ("align", True, "align what remove_bg wrote to one reference a type", photos),
        (
            "make_input",
            False,
            "crop, match the light, pool, and write out.npz",
            f"{photos} (default: all types)",
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
        command.set_defaults(run=_run_preprocessing, verb=name)

    command = _command(commands, "train", "train the model on out.npz, and calibrate it on held-out good parts")
    command.description = f"{command.description} Model families (model_training.model): {', '.join(families())}."
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
    command.set_defaults(run=_run_training)

    command = _command(commands, "validate", "give every part of a batch a verdict; write tables, figures, report")
    command.add_argument("-i", "--input", metavar="DIR-or-IMAGE", required=True, help=f"{photos}, or one image")
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
    command.set_defaults(run=_run_validation)
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
    command.set_defaults(run=_run_detection)

    command = _command(commands, "encode", "write the latent vectors of photographs, for similarity search")
    command.description = (
        "Write what the model keeps of each photograph, a vector of a few numbers: for each type latents.npy (n, L), "
        "and manifest.csv, whose row n names the photograph of vector n. Photographs are prepared as training has left "
        "word. Parts that look alike have vectors that point the same way."
    )
    source = "an .npz that make_input or validate wrote, or a folder of them"
    command.add_argument(
        "-i", "--input", metavar="DIR-or-IMAGE", required=True, help=f"{photos}, one image, or {source}"
    )
    command.add_argument(
        "-o",
        "--out",
        metavar="DIR",
        help="write DIR/TYPE/latents.npy, ... (default: latents_path in paths.yaml, out/COMPONENT/TYPE/latents)",
    )
    _workers_option(command)
    command.set_defaults(run=_run_encoding)

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
        help=f"{source}, or photographs as for validate (default: what the component's models were trained with)",
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
    command.set_defaults(run=_run_evaluation)

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
    command.set_defaults(run=_run_benchmark)

    command = _command(commands, "demo", "render a small component with planted defects and run everything on it")
    command.add_argument("dir", nargs="?", default="pixal_demo", metavar="DIR", help="where (default: ./pixal_demo)")
    command.set_defaults(run=_run_demo)
    return parser


def _command(commands: Any, name: str, text: str) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(
        name, help=text, description=f"{text[0].upper()}{text[1:]}.", epilog="exit status: see pixal --help"
    )
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


def _config(options: argparse.Namespace) -> Any:
    overrides = list(options.overrides)
    if options.workers is not None:
        overrides += [f"{key}={options.workers}" for key in _WORKERS]
    return pixal.load_config(options.config, overrides)


def _run_preprocessing(options: argparse.Namespace) -> int:
    run = getattr(pixal, options.verb)
    outcome = run(options.input, config=_config(options), force=options.force, quiet=options.quiet)
    return _report_failures(outcome.failures)


def _run_training(options: argparse.Namespace) -> int:
    config = pixal.load_config(options.config, options.overrides)
    try:
        outcome = pixal.train(
            options.input, config=config, resume=options.resume, epochs=options.epochs, quiet=options.quiet
        )
    except KeyboardInterrupt as stop:
        said = str(stop) or "training stopped; the same command with --resume goes on from the last checkpoint"
        return _say(FAILED, f"pixal: {said}")
    return _report_failures(outcome.failures)


def _run_validation(options: argparse.Namespace) -> int:
    config = _config(options)
    if not options.watch:
        try:
            batch = pixal.validate(
                options.input,
                truth=options.truth,
                model=options.model,
                config=config,
                force=options.force,
                quiet=options.quiet,
            )
        except KeyboardInterrupt:
            return _say(FAILED, "pixal: validate stopped; the same command goes on with the parts that have no verdict")
        return _verdict_status(batch, options)
    if options.truth:
        raise InputError("--truth does not go with --watch; run pixal detect --truth DIR when the watch has ended")
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # a service is ended as by Ctrl-C
    try:
        batch = pixal.watch(options.input, model=options.model, config=config, force=options.force)
        return _verdict_status(batch, options)
    finally:
        signal.signal(signal.SIGTERM, before)


def _run_detection(options: argparse.Namespace) -> int:
    batch = pixal.detect(options.input, truth=options.truth, config=_config(options), quiet=options.quiet)
    return _verdict_status(batch, options)


def _run_encoding(options: argparse.Namespace) -> int:
    outcome = pixal.encode(options.input, out=options.out, config=_config(options), quiet=options.quiet)
    return _report_failures(outcome.failures)


def _run_evaluation(options: argparse.Namespace) -> int:
    evaluation = pixal.evaluate(
        options.input,
        checkpoint=options.checkpoint,
        samples=options.samples,
        config=_config(options),
        quiet=options.quiet,
    )
    sys.stdout.write(evaluation.summary() + "\n")
    return _report_failures(evaluation.failures)


def _run_benchmark(options: argparse.Namespace) -> int:
    try:
        results = pixal.benchmark(
            options.input,
            out=options.out,
            classes=options.classes,
            config=_config(options),
            force=options.force,
            quiet=options.quiet,
        )
    except KeyboardInterrupt:
        return _say(FAILED, "pixal: benchmark stopped; the same command goes on where it was")
    status = _report_failures(results.failures)
    return BAD_INPUT if results.all_failed else status


def _verdict_status(batch: Any, options: argparse.Namespace) -> int:
    status = _report_failures(batch.failures)
    if options.fail_on_anomaly and batch.failed:
        return ANOMALY
    return BAD_INPUT if batch.failures and len(batch.failures) == len(batch.parts) else status


def _run_demo(options: argparse.Namespace) -> int:
    batch = pixal.demo(options.dir, config=options.config, overrides=options.overrides, quiet=options.quiet)
    sys.stdout.write(batch.summary() + "\n")
    return _report_failures(batch.failures)


def _report_failures(failures: Sequence[Any]) -> int:
    for failure in failures:
        sys.stderr.write(f"pixal: not processed: {failure}\n")
    return INCOMPLETE if failures else DONE


def _set_up_logging(quiet: bool) -> None:
    # C++ notes of these libraries come before any Python logging is asked; what matters reaches us as an exception.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.getLogger("pixal")
    logger.handlers[:] = [handler]
    logger.setLevel(logging.INFO)
    handler.setLevel(logging.WARNING if quiet else logging.INFO)
    logger.propagate = False


def _say(status: int, text: str) -> int:
    sys.stderr.write(text + "\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
