"""The program: what it sets for its process, and how it ends.

Exit codes: 0, done; 1, a fault of the program, with its traceback; 2, an error that the user can correct, one
sentence on stderr; 128 + the number of a signal, 130 for Ctrl-C.
"""

from __future__ import annotations

import os
import signal
import sys
import warnings
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def main() -> None:
    """The entry point."""
    before = {number: signal.signal(number, _interrupted) for number in SIGNALS}
    try:
        code = _run()
        sys.stdout.flush()
    except BrokenPipeError:  # of a pipe into head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    sys.exit(code)


def _run() -> int:
    warnings.showwarning = _show_warning
    try:
        from jaxreg.faces.cli.app import app

        return app(sys.argv[1:] or ["--help"], prog_name="jaxreg", standalone_mode=False) or 0
    except BrokenPipeError:
        raise
    except ModuleNotFoundError as error:  # with a name if it is not a face that says what it needs
        needs = f'the command needs {error.name}: python -m pip install "jaxreg[cli]"'
        return _fail(needs if error.name else str(error))
    except (OSError, ValueError, TypeError, MemoryError) as error:
        return _fail(str(error))
    except Exception as error:
        from jaxreg.data.output import UserError

        if isinstance(error, UserError):
            return _fail(str(error))
        if not hasattr(error, "format_message"):  # of the arguments: click's, which newer typer has a copy of
            raise
        return _fail(error.format_message())  # pyright: ignore


def _fail(message: str) -> int:
    """Print an error as one line."""
    print(f"jaxreg: {' '.join(message.split())}", file=sys.stderr)
    return 2


def _show_warning(message: Any, category: type[Warning], *_: Any) -> None:
    """A warning as one line; those for developers are left out."""
    if not issubclass(category, DeprecationWarning | PendingDeprecationWarning | FutureWarning):
        print(f"jaxreg: {' '.join(str(message).split())}", file=sys.stderr)


def _interrupted(number: int, _: Any) -> None:
    """End at once, without what is half-written; an exception could be caught or printed anywhere."""
    output = sys.modules.get("jaxreg.data.output")
    if output is not None:
        output.remove_unfinished()
    cursor = "\x1b[?25h" if sys.stderr.isatty() else ""  # hidden by progress bars
    os.write(2, f"{cursor}\njaxreg: interrupted\n".encode())
    os._exit(128 + number)
