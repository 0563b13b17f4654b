"""From an exception to one sentence and an exit code."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from typing import Any

import typer
from typer.core import TyperGroup

from anogan.cli._terminal import print_error
from anogan.errors import AnoganError, is_out_of_memory

USER_MISTAKE, OUR_FAULT, STOPPED, BROKEN_PIPE = 2, 3, 130, 141
TRACEBACK_VARIABLE = "ANOGAN_TRACEBACK"

_EXTRAS = {
    "torch": "train",
    "torchvision": "train",
    "albumentations": "train",
    "lightning_fabric": "train",
    "matplotlib": "train",
    "sklearn": "train",
    "scipy": "train",
    "onnx": "export",
    "onnxscript": "export",
    "onnxruntime": "station",
}


class GuardedGroup(TyperGroup):
    """Runs a command; what it raises becomes one sentence on stderr."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As the base; `--traceback` may also stand behind the command, where one adds it to a line."""
        end = args.index("--") if "--" in args else len(args)
        if "--traceback" in args[:end]:
            args = ["--traceback", *(word for word in args[:end] if word != "--traceback"), *args[end:]]
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """As the base, with `typer.Exit` for every error that is not about the command line itself."""
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort):
            raise
        except KeyboardInterrupt:
            print_error("Stopped by Ctrl-C.")
            raise typer.Exit(STOPPED) from None
        except BrokenPipeError:
            _give_up_stdout()
            raise typer.Exit(BROKEN_PIPE) from None
        except Exception as error:
            if hasattr(error, "format_message"):  # A wrong option: typer shows the usage.
                raise
            raise _told(error) from None


def _told(error: Exception) -> typer.Exit:
    """Prints the sentence, before it the traceback when that was asked for."""
    if os.environ.get(TRACEBACK_VARIABLE, "").strip() not in ("", "0"):
        traceback.print_exception(error)
    sentence = sentence_of(error)
    print_error(_fault(error) if sentence is None else sentence)
    if isinstance(error, OSError):
        _give_up_stdout()
    return typer.Exit(OUR_FAULT if sentence is None else USER_MISTAKE)


def sentence_of(error: Exception) -> str | None:
    """What went wrong and what to do, in one sentence; None for a fault of this package."""
    if isinstance(error, AnoganError):
        return str(error)
    if is_out_of_memory(error):
        return _OUT_OF_MEMORY
    if isinstance(error, ImportError):
        return _import_sentence(error)
    return _os_sentence(error) if isinstance(error, OSError) else None


_OUT_OF_MEMORY = (
    "The memory is full; close other programs, or lower gan.batch_size, head.batch_size, tiles.size or "
    "images.size."
)


def _fault(error: Exception) -> str:
    detail = " ".join(str(error).split())
    return (
        f"This is a fault of anogan: {type(error).__name__}: {detail}; run it again with "
        f"`anogan --traceback ...` and report what it prints."
    )


def _os_sentence(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    reason = error.strerror or str(error)
    if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
        return f"{where}the disk is full ({reason}); free space, or write to another disk."
    if isinstance(error, PermissionError):
        return f"{where}this may not be read or written ({reason}); permit it, or name another place."
    return f"{where}{reason}; check the path and the disk."


def _import_sentence(error: ImportError) -> str | None:
    module = (error.name or "").split(".")[0]
    reason = " ".join(str(error).split()).rstrip(".")
    if module == "anogan":
        return None
    if module in _EXTRAS:
        needed = f'pip install "anogan[{_EXTRAS[module]}]"'
        return f"{reason}: this command needs more than is installed; run `{needed}`."
    return f"{reason}; `anogan doctor` looks what is wrong with the installation."


def _give_up_stdout() -> None:
    """Python flushes stdout at exit: what a closed pipe or a full disk refused must not fail once more."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
