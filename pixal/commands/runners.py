"""The functions of the commands: each calls one public function, and prints the result."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import pixal
from pixal.commands.exit_status import ExitStatus
from pixal.errors import InputError
from pixal.io.names import printable

if TYPE_CHECKING:
    from pixal.config import Config
    from pixal.outcome import Failure, Overview, Results

_WITHOUT_COMPONENT = ("benchmark", "inspect")  # their outputs are not in the folders of the configured component


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
    return _report(evaluation)


def _planted(options: argparse.Namespace) -> ExitStatus:
    """Run ``sensitivity`` or ``compare``."""
    from pixal.commands.planted_parser import defect_options

    own = {"rates": options.rates} if options.command == "sensitivity" else {"candidates": options.candidates}
    result = getattr(pixal, options.command)(
        options.input,
        config=_load_config(options),
        force=options.force,
        quiet=options.quiet,
        **own,
        **defect_options(options),
    )
    return _report(result)


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
    return _report(result)


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
    return _report(arranged)


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
    return _report(batch)


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


def _verdict_status(batch: Results, options: argparse.Namespace) -> ExitStatus:
    """Report the failures of a batch, and return its exit status."""
    status = _report_failures(batch.failures)
    if options.fail_on_anomaly and batch.failed:
        return ExitStatus.ANOMALY
    return ExitStatus.BAD_INPUT if batch.all_failed else status


def _report(result: Results) -> ExitStatus:
    """Print the summary of a result and its failures, and return the exit status."""
    sys.stdout.write(result.summary() + "\n")
    return _report_failures(result.failures)


def _report_failures(failures: Sequence[Failure | str]) -> ExitStatus:
    """Print each failure on standard error, and return the exit status."""
    for failure in failures:
        sys.stderr.write(f"pixal: not processed: {printable(str(failure))}\n")
    return ExitStatus.INCOMPLETE if failures else ExitStatus.DONE


RUNNERS: dict[str, Callable[[argparse.Namespace], ExitStatus]] = {
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
    "sensitivity": _planted,
    "compare": _planted,
    "history": _history,
    "accept": _learning,
    "promote": _learning,
    "recalibrate": _learning,
    "serve": _serve,
    "arrange": _arrange,
    "benchmark": _benchmark,
    "demo": _demo,
}
"""The function of each command. It takes the parsed options, and returns the exit status."""
