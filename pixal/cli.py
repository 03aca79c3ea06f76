"""The command line: parse, call one function, turn errors into exit statuses."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from typing import Any

import pixal
from pixal.commands.parser import ANOMALY, BAD_INPUT, DONE, FAILED, INCOMPLETE, build_parser
from pixal.config import Config
from pixal.errors import InputError, PixalError
from pixal.outcome import Results
from pixal.tasks import configured_task


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status."""
    options = build_parser().parse_args(arguments)
    _set_up_logging(options.quiet)
    try:
        return _RUNS[options.command](options)
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


def _config(options: argparse.Namespace) -> Config:
    config = pixal.load_config(options.config, options.overrides)
    if options.workers is None:
        return config
    workers = [f"{key}={options.workers}" for key in configured_task(config).worker_settings]
    return pixal.load_config(options.config, [*options.overrides, *workers])


def _run_preprocessing(options: argparse.Namespace) -> int:
    run = getattr(pixal, options.command)
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


def _verdict_status(batch: Results, options: argparse.Namespace) -> int:
    status = _report_failures(batch.failures)
    if options.fail_on_anomaly and batch.failed:
        return ANOMALY
    return BAD_INPUT if batch.all_failed else status


def _run_demo(options: argparse.Namespace) -> int:
    batch = pixal.demo(options.dir, config=options.config, overrides=options.overrides, quiet=options.quiet)
    sys.stdout.write(batch.summary() + "\n")
    return _report_failures(batch.failures)


_RUNS = {
    **dict.fromkeys(("preprocess", "remove_bg", "align", "make_input"), _run_preprocessing),
    "train": _run_training,
    "validate": _run_validation,
    "detect": _run_detection,
    "encode": _run_encoding,
    "evaluate": _run_evaluation,
    "benchmark": _run_benchmark,
    "demo": _run_demo,
}


def _report_failures(failures: Sequence[Any]) -> int:
    for failure in failures:
        sys.stderr.write(f"pixal: not processed: {failure}\n")
    return INCOMPLETE if failures else DONE


def _set_up_logging(quiet: bool) -> None:
    # C++ notes of these libraries come before any Python logging is asked; what matters reaches us as an exception.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
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
