"""The application: options that all commands share, how they answer, and how they end."""

from __future__ import annotations

import inspect
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import wraps
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, NoReturn

import typer

from lab import __version__, extras
from lab.console import Plain, console
from lab.errors import LabError

settings = SimpleNamespace(json=False, verbose=False)  # of the command that runs


class Commands(typer.core.TyperGroup):
    """Every end of a command is an exit code and at most one line."""

    def main(self, args: Sequence[str] | None = None, *given: Any, **options: Any) -> NoReturn:
        _open_closed_streams()
        for stream in (sys.stdout, sys.stderr):  # a name that the terminal cannot show is no reason to fail
            with suppress(AttributeError):
                stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
        bundle = os.environ.get("LAB_BUNDLE")
        settings.json = settings.verbose = console.quiet = False
        if "_LAB_COMPLETE" in os.environ:  # a shell asks
            super().main(args, *given, **options)
        try:
            with _signals():
                code = self._run(list(sys.argv[1:] if args is None else args))
        finally:
            os.environ.pop("LAB_BUNDLE", None)
            if bundle is not None:
                os.environ["LAB_BUNDLE"] = bundle
        raise SystemExit(code)

    def _run(self, words: list[str]) -> int:
        try:
            with self.make_context("lab", words) as context:
                self.invoke(context)
            return 0
        except typer.Exit as end:
            return end.exit_code
        except KeyboardInterrupt as error:
            return stopped(error)
        except LabError as error:
            return _refused(error)
        except ModuleNotFoundError as error:
            extra = next((f"speechssm-lab[{name}]" for name, has in extras.MODULES.items() if error.name in has), None)
            return _refused(f"{error}; this needs `pip install {extra or error.name}`")
        except Exception as error:
            if hasattr(error, "format_message"):  # typer's, about the words
                return _refused(error.format_message())
            if isinstance(error, OSError):  # of the help, most likely
                _drop_output()
                return 128 + signal.SIGPIPE if isinstance(error, BrokenPipeError) else _refused(error)
            return _refused(f"internal error, {type(error).__name__}: {error}; -v shows where")


def stopped(error: KeyboardInterrupt) -> int:
    """The exit code after the signal that it carries, Ctrl-C's if none."""
    return 128 + (error.args[0] if error.args else signal.SIGINT)


@contextmanager
def printing() -> Iterator[None]:
    """Around what writes to standard output: LabError where that is full or closed, an end where nobody reads it."""
    try:
        yield
        sys.stdout.flush()
    except OSError as error:
        _drop_output()
        if isinstance(error, BrokenPipeError):
            raise typer.Exit(128 + signal.SIGPIPE) from None
        raise LabError(f"cannot write to standard output: {error.strerror or error}") from error


def _drop_output() -> None:
    """What is left in the buffer of standard output would fail again at the end of the process."""
    with suppress(OSError):
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())


def _refused(error: object) -> int:
    if settings.verbose:
        traceback.print_exc()
    console.quiet = False
    console.print("lab:", *str(error).split())
    return 2


def _open_closed_streams() -> None:
    """Else the next file that is opened takes their number. What is written to a closed standard output has to fail."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            os.open(os.devnull, os.O_WRONLY if name == "stderr" else os.O_RDONLY)
            setattr(sys, name, open(number, "r" if name == "stdin" else "w", closefd=False))


@contextmanager
def _signals() -> Iterator[None]:
    """SIGTERM and SIGHUP end a command as Ctrl-C does. Those that follow must not cut the end short."""
    came: list[int] = []

    def stop(number: int, frame: Any) -> None:
        if not came:
            came.append(number)
            raise KeyboardInterrupt(number)

    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is signal.SIG_DFL:  # nohup ignores SIGHUP, and wants that kept
                before[number] = signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def share(
    json: Annotated[bool, typer.Option("--json", help="Results as JSON on standard output.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show where an error came from.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no messages but errors.")] = False,
    bundle: Annotated[
        Path | None, typer.Option(help="The folder of the models, in place of LAB_BUNDLE or the one that ships.")
    ] = None,
) -> None:
    """What every command takes, before its name or after."""
    settings.json |= json
    settings.verbose |= verbose
    console.quiet |= quiet
    if bundle is not None:
        os.environ["LAB_BUNDLE"] = str(bundle)  # worker processes have it too


def sharing(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` with the options of `share` after its own."""
    own, shared = (inspect.signature(each, eval_str=True) for each in (function, share))

    @wraps(function)
    def run(**given: Any) -> Any:
        share(**{name: given.pop(name) for name in shared.parameters})
        return function(**given)

    parameters = [each.replace(kind=each.KEYWORD_ONLY) for sign in (own, shared) for each in sign.parameters.values()]
    run.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
    return run


app = typer.Typer(
    cls=Commands, pretty_exceptions_enable=False, context_settings={"help_option_names": ["-h", "--help"]}
)


@app.callback(invoke_without_command=True)
@sharing
def lab(
    context: typer.Context, version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False
) -> None:
    """Speech in, minutes or hours of new speech out, in constant memory."""
    if version:
        answer({"version": __version__}, f"speechssm-lab {__version__}")
    elif context.invoked_subcommand is None:
        with printing():
            print(context.get_help(), end="")
    else:
        return
    raise typer.Exit()


def command(function: Callable[..., Any]) -> Callable[..., Any]:
    """Registers `function` as a command of its name."""
    app.command()(sharing(function))
    return function


def answer(found: Any, *shown: Any) -> None:
    """What a command found, on standard output: `found` as JSON where that is asked for, else what is `shown`."""
    with printing():
        if settings.json:
            print(json.dumps(found, default=str))
        else:
            for each in shown:
                Plain().print(each)
