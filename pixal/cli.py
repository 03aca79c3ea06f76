"""The command line: parse the options, call one function, and turn errors into exit statuses.

What takes long to import is imported in the functions, where signals are handled: Ctrl-C prints no traceback then.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import pixal
from pixal.commands.exit_status import ExitStatus
from pixal.commands.signals import Received, stop_by_signals
from pixal.commands.streams import tolerant_streams
from pixal.errors import InputError, PixalError, Stopped, StorageError
from pixal.io.files import storage_error
from pixal.io.logs import PrintableFormatter
from pixal.io.names import printable

if TYPE_CHECKING:
    from pixal.config import Config
    from pixal.outcome import Failure, Overview, Results


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: The command and its options. Default: those of the process.

    Returns:
        The exit status.
    """
    with tolerant_streams(), stop_by_signals(to_the_end=arguments is None) as received:
        return _run(arguments, received)


def _run(arguments: Sequence[str] | None, received: Received) -> ExitStatus:
    """Run a command, and turn errors into exit statuses."""
    options = argparse.Namespace(command="the command", debug=False)  # until they are parsed
    try:
        from pixal.commands.parser import build_parser

        options = build_parser().parse_args(arguments)
        if arguments is None and options.command in _DEFERRED:
            _defer_runs()
        _set_up_logging(options.log_level or ("warning" if options.quiet else "info"))
        return _COMMANDS[options.command](options)
    except (KeyboardInterrupt, Exception) as error:
        if options.debug:
            traceback.print_exc()
        # A library may have turned the interruption into an error of its own; no library raises StorageError.
        is_stopped = received.number is not None and not isinstance(error, StorageError)
        if isinstance(error, KeyboardInterrupt) or is_stopped:
            return _report_stop(error, options.command, received)
        return _report_error(error)


def _defer_runs() -> None:
    """Let another process write the run into MLflow, whose import takes longer than some verdicts."""
    from pixal.tracking import defer_runs

    defer_runs()


def _report_stop(error: BaseException, command: str, received: Received) -> ExitStatus:
    number = error.number if isinstance(error, Stopped) else received.number
    hint = str(error) if isinstance(error, KeyboardInterrupt) else ""
    status = ExitStatus.TERMINATED if number == signal.SIGTERM else ExitStatus.INTERRUPTED
    return _print_error(status, hint or f"{command} stopped; {_AFTER_STOP.get(command, 'run the same command again')}")


def _report_error(error: Exception) -> ExitStatus:
    if isinstance(error, PixalError):
        return _print_error(ExitStatus.BAD_INPUT, f"error: {error}")
    if isinstance(error, OSError) and (storage := storage_error(error)):
        return _print_error(ExitStatus.BAD_INPUT, f"error: {storage}")
    if _is_out_of_memory(error):
        return _print_error(
            ExitStatus.BAD_INPUT,
            "error: not enough memory; use fewer --workers, lower execution.memory_limit, or raise the "
            "limit of the process (ulimit -v)",
        )
    kind = type(error).__name__
    text = " ".join(str(error).split()) or kind
    return _print_error(ExitStatus.FAILED, f"unexpected failure: {kind}: {text} (--debug shows where)")


def _load_config(options: argparse.Namespace) -> Config:
    """Load the settings, with the overrides by ``--set`` and ``--workers``."""
    from pixal.config.loading import warn_of_shipped_component
    from pixal.tasks import configured_task

    config = pixal.load_config(options.config, options.overrides)
    if options.config is None and options.command not in _WITHOUT_COMPONENT:
        warn_of_shipped_component(config)
    if getattr(options, "workers", None) is None:
        return config
    workers = [f"{key}={options.workers}" for key in configured_task(config).worker_settings]
    return pixal.load_config(options.config, [*options.overrides, *workers])


def _inspect(options: argparse.Namespace) -> ExitStatus:
    inspection = pixal.inspect(
        options.input,
        against=options.against,
        sample=options.sample,
        out=options.out,
        config=_load_config(options),
        quiet=options.quiet,
    )
    return _report_failures(inspection.failures)


def _preprocess(options: argparse.Namespace) -> ExitStatus:
    function = getattr(pixal, options.command)
    outcome = function(options.input, config=_load_config(options), force=options.force, quiet=options.quiet)
    return _report_failures(outcome.failures)


def _train(options: argparse.Namespace) -> ExitStatus:
    outcome = pixal.train(
        options.input,
        config=_load_config(options),
        resume=options.resume,
        epochs=options.epochs,
        candidate=options.candidate,
        quiet=options.quiet,
    )
    return _report_failures(outcome.failures)


def _validate(options: argparse.Namespace) -> ExitStatus:
    if options.watch:
        return _watch(options)
    batch = pixal.validate(
        options.input,
        batch=options.batch,
        truth=options.truth,
        model=options.model,
        config=_load_config(options),
        force=options.force,
        quiet=options.quiet,
    )
    return _verdict_status(batch, options)


def _watch(options: argparse.Namespace) -> ExitStatus:
    config = _load_config(options)
    if options.truth:
        raise InputError("--truth cannot be used with --watch; run pixal detect --truth DIR when the watch has ended")
    batch = pixal.watch(options.input, batch=options.batch, model=options.model, config=config, force=options.force)
    return _verdict_status(batch, options)


def _detect(options: argparse.Namespace) -> ExitStatus:
    batch = pixal.detect(
        options.input, batch=options.batch, truth=options.truth, config=_load_config(options), quiet=options.quiet
    )
    return _verdict_status(batch, options)


def _export(options: argparse.Namespace) -> ExitStatus:
    pixal.export(options.type, out=options.out, config=_load_config(options), force=options.force)
    return ExitStatus.DONE


def _import(options: argparse.Namespace) -> ExitStatus:
    pixal.import_(options.file, config=_load_config(options), force=options.force)
    return ExitStatus.DONE


def _encode(options: argparse.Namespace) -> ExitStatus:
    outcome = pixal.encode(options.input, out=options.out, config=_load_config(options), quiet=options.quiet)
    return _report_failures(outcome.failures)


def _evaluate(options: argparse.Namespace) -> ExitStatus:
    evaluation = pixal.evaluate(
        options.input,
        checkpoint=options.checkpoint,
        samples=options.samples,
        config=_load_config(options),
        quiet=options.quiet,
    )
    sys.stdout.write(evaluation.summary() + "\n")
    return _report_failures(evaluation.failures)


def _sensitivity(options: argparse.Namespace) -> ExitStatus:
    from pixal.commands.planted_parser import defect_options

    sensitivity = pixal.sensitivity(
        options.input,
        rates=options.rates,
        config=_load_config(options),
        force=options.force,
        quiet=options.quiet,
        **defect_options(options),
    )
    sys.stdout.write(sensitivity.summary() + "\n")
    return _report_failures(sensitivity.failures)


def _compare(options: argparse.Namespace) -> ExitStatus:
    from pixal.commands.planted_parser import defect_options

    comparison = pixal.compare(
        options.input,
        candidates=options.candidates,
        config=_load_config(options),
        force=options.force,
        quiet=options.quiet,
        **defect_options(options),
    )
    sys.stdout.write(comparison.summary() + "\n")
    return _report_failures(comparison.failures)


def _history(options: argparse.Namespace) -> ExitStatus:
    history = pixal.history(
        by=options.by,
        types=options.types,
        batches=options.batches,
        since=options.since,
        until=options.until,
        marks=options.marks,
        rebuild=options.rebuild,
        config=pixal.load_config(options.config, options.overrides),
    )
    if options.json:
        sys.stdout.write(history.as_json() + "\n")
        return ExitStatus.DONE
    table, page = history.write_table(), history.write_page()
    sys.stdout.write(f"{history.summary()}\n\ntable: {table}\npage: {page}\n")
    return ExitStatus.DONE


def _learning(options: argparse.Namespace) -> ExitStatus:
    from pixal.commands.learning_parser import run_learning

    result = run_learning(options, _load_config(options))
    sys.stdout.write(result.summary() + "\n")
    return _report_failures(result.failures)


def _serve(options: argparse.Namespace) -> ExitStatus:
    config = pixal.load_config(options.config, options.overrides)

    def announce(address: str) -> None:
        sys.stdout.write(f"PIXAL shows {config.paths.component} at {address}\nCtrl-C ends it.\n")
        sys.stdout.flush()

    pixal.serve(host=options.host, port=options.port, config=config, started=announce)
    return ExitStatus.DONE


def _arrange(options: argparse.Namespace) -> ExitStatus:
    names = ("file", "type", "label", "kind", "split", "truth", "link", "steps", "test_ratio")
    arranged = pixal.arrange(
        options.tables, options.inputs, options.out, **{name: getattr(options, name) for name in names}
    )
    sys.stdout.write(arranged.summary() + "\n")
    return _report_failures(arranged.failures)


def _benchmark(options: argparse.Namespace) -> ExitStatus:
    results = pixal.benchmark(
        options.input,
        out=options.out,
        classes=options.classes,
        config=_load_config(options),
        force=options.force,
        quiet=options.quiet,
    )
    status = _report_failures(results.failures)
    return ExitStatus.BAD_INPUT if results.all_failed else status


def _demo(options: argparse.Namespace) -> ExitStatus:
    batch = pixal.demo(
        options.dir, task=options.task, config=options.config, overrides=options.overrides, quiet=options.quiet
    )
    sys.stdout.write(batch.summary() + "\n")
    return _report_failures(batch.failures)


def _init(options: argparse.Namespace) -> ExitStatus:
    started = pixal.init(options.component, input_dir=options.input, config=options.config or "configs")
    sys.stdout.write(started.summary() + "\n")
    return ExitStatus.DONE


def _check(options: argparse.Namespace) -> ExitStatus:
    return _show(pixal.check(options.input, config=_load_config(options)), options)


def _clean(options: argparse.Namespace) -> ExitStatus:
    cleaning = pixal.clean(maps=options.maps, remove=options.yes, config=_load_config(options))
    sys.stdout.write(cleaning.summary() + "\n")
    return ExitStatus.DONE


def _status(options: argparse.Namespace) -> ExitStatus:
    return _show(pixal.status(config=_load_config(options)), options)


def _doctor(options: argparse.Namespace) -> ExitStatus:
    return _show(pixal.doctor(), options)


def _show(overview: Overview, options: argparse.Namespace) -> ExitStatus:
    """Print an overview; with problems in it, the exit status says so."""
    text = json.dumps(overview.as_json(), indent=1) if options.json else overview.summary()
    sys.stdout.write(f"{text}\n")
    return ExitStatus.BAD_INPUT if overview.problems else ExitStatus.DONE


_COMMANDS: dict[str, Callable[[argparse.Namespace], ExitStatus]] = {
    "inspect": _inspect,
    "init": _init,
    "check": _check,
    "status": _status,
    "clean": _clean,
    "doctor": _doctor,
    "preprocess": _preprocess,
    "remove_bg": _preprocess,
    "align": _preprocess,
    "make_input": _preprocess,
    "train": _train,
    "validate": _validate,
    "detect": _detect,
    "export": _export,
    "import": _import,
    "encode": _encode,
    "evaluate": _evaluate,
    "sensitivity": _sensitivity,
    "compare": _compare,
    "history": _history,
    "accept": _learning,
    "promote": _learning,
    "recalibrate": _learning,
    "serve": _serve,
    "arrange": _arrange,
    "benchmark": _benchmark,
    "demo": _demo,
}
_WITHOUT_COMPONENT = ("benchmark", "inspect")  # their outputs are not in the folders of the configured component
_DEFERRED = ("validate", "detect")  # whose runs another process writes into MLflow
_AFTER_STOP = {
    "preprocess": "the same command resumes with the photographs that are not done yet",
    "train": "to resume from the last checkpoint, add --resume to the same command",
    "validate": "the same command resumes with the parts that have no verdict yet",
    "serve": "all marks are stored; the same command starts it again",
    "sensitivity": "the same command resumes it",
    "compare": "the same command resumes it",
    "benchmark": "the same command resumes it",
}


def _verdict_status(batch: Results, options: argparse.Namespace) -> ExitStatus:
    """Report the failures of a batch, and return its exit status."""
    status = _report_failures(batch.failures)
    if options.fail_on_anomaly and batch.failed:
        return ExitStatus.ANOMALY
    return ExitStatus.BAD_INPUT if batch.all_failed else status


def _report_failures(failures: Sequence[Failure | str]) -> ExitStatus:
    """Print each failure on standard error, and return the exit status."""
    for failure in failures:
        sys.stderr.write(f"pixal: not processed: {printable(str(failure))}\n")
    return ExitStatus.INCOMPLETE if failures else ExitStatus.DONE


def _print_error(status: ExitStatus, text: str) -> ExitStatus:
    sys.stderr.write(f"pixal: {printable(' '.join(text.splitlines()))}\n")
    return status


def _is_out_of_memory(error: Exception) -> bool:
    """Whether Python, OpenCV, the system's loader or its threads ran out of memory."""
    text = str(error).lower()
    signs = ("insufficient memory", "cannot allocate memory", "failed to map segment", "can't start new thread")
    return isinstance(error, MemoryError) or any(sign in text for sign in signs)


def _set_up_logging(level: str) -> None:
    # These libraries print notes from C++, before Python's logging is set up. Real problems reach us as exceptions.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(PrintableFormatter("%(message)s"))
    logger = logging.getLogger("pixal")
    logger.handlers[:] = [handler]
    number = getattr(logging, level.upper())
    logger.setLevel(min(number, logging.INFO))  # log files hold these messages, too
    handler.setLevel(number)
    logger.propagate = False
    # What these libraries say of a damaged file comes as an exception too.
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", module=r"PIL\.")


if __name__ == "__main__":
    sys.exit(main())
