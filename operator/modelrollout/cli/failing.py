"""What goes wrong, as one sentence a person can act on and an exit code; never a traceback."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click
from typing_extensions import override

from modelrollout.cli.exits import Exit
from modelrollout.ports import PortError


class Complaint(click.ClickException):
    """One sentence for standard error, and the exit code of the command."""

    def __init__(self, sentence: str, code: int = Exit.OTHER) -> None:
        super().__init__(sentence)
        self.code = int(code)

    @property
    @override
    def exit_code(self) -> int:  # type: ignore[override]
        """Click asks for it by this name."""
        return self.code

    @override
    def format_message(self) -> str:
        return self.message


@contextmanager
def plainly() -> Iterator[None]:
    """Turn the errors of the ports into complaints; Ctrl-C ends without a word."""
    try:
        yield
    except PortError as error:
        raise Complaint(str(error)) from error
    except KeyboardInterrupt:
        sys.stderr.write("\n")
        raise SystemExit(130) from None
    except BrokenPipeError:
        # The reader (head, less) has seen enough; closing stdout here keeps the interpreter from complaining.
        sys.stderr.close()
        raise SystemExit(0) from None
