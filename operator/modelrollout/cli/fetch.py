"""`modelrollout fetch`: brings a model repository from an object store into the pod, before Triton starts."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from modelrollout.adapters.download import Download, Progress, megabytes
from modelrollout.adapters.object_store import Failure, FetchError, S3ObjectStore
from modelrollout.api.scalars import quantity

EXIT_CODES = {
    Failure.DENIED: 10,
    Failure.MISSING: 11,
    Failure.EMPTY: 12,
    Failure.NO_SPACE: 13,
    Failure.UNSAFE: 14,
    Failure.UNREACHABLE: 15,
    Failure.CHANGED: 16,
    Failure.REFUSED: 17,
}
REPORT_SECONDS = 2.0
MESSAGE_LIMIT = 1024


def _amount(_: click.Context, __: click.Parameter, value: str | None) -> int | None:
    try:
        return None if value is None else int(quantity(value))
    except (ValueError, ArithmeticError) as error:
        raise click.BadParameter("must be a quantity like 50Gi") from error


def _location(_: click.Context, __: click.Parameter, value: str) -> tuple[str, str]:
    bucket, slash, prefix = value.removeprefix("s3://").partition("/")
    if not value.startswith("s3://") or not bucket or not slash or not prefix.strip("/"):
        raise click.BadParameter("must be s3://<bucket>/<prefix>")
    return bucket, prefix.strip("/")


@click.command()
@click.option("--uri", required=True, callback=_location, help="Model repository: s3://<bucket>/<prefix>.")
@click.option(
    "--to",
    "target",
    required=True,
    type=click.Path(path_type=Path),
    help="Folder for it; the checksums come beside it.",
)
@click.option("--endpoint", help="URL of an S3-compatible store; without it AWS.")
@click.option("--region", help="Region of the bucket.")
@click.option("--model", help="Folder that must be in the repository.")
@click.option("--limit", callback=_amount, help="Refuse more than this many bytes, like 50Gi.")
@click.option("--workers", default=4, show_default=True, type=click.IntRange(1, 32), help="Files at a time.")
@click.option(
    "--termination-log",
    default="/dev/termination-log",
    show_default=True,
    type=click.Path(path_type=Path),
    help="Written with the outcome where it exists: it is what the pod's status shows.",
)
def fetch(
    uri: tuple[str, str],
    target: Path,
    endpoint: str | None,
    region: str | None,
    model: str | None,
    limit: int | None,
    workers: int,
    termination_log: Path,
) -> None:
    """Fetch a Triton model repository from an S3-compatible store.

    Credentials come from AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN; without them the bucket is
    read anonymously. A second run goes on where the first broke off.

    Exit codes: 10 not allowed, 11 no such bucket, 12 nothing there, 13 no space, 14 unsafe key, 15 unreachable,
    16 changed while it was fetched, 17 refused.
    """
    bucket, prefix = uri
    started = time.monotonic()
    progress = Progress()
    click.echo(f"fetching s3://{bucket}/{prefix} from {endpoint or 'AWS'}")
    try:
        store = S3ObjectStore(bucket, endpoint, region, os.environ)
        download = Download(store, prefix, target, model=model, limit=limit, workers=workers, progress=progress)
        with _reporting(progress, started):
            summary = download.run()
    except FetchError as error:
        _leave(termination_log, str(error))
        click.echo(f"error: {error}", err=True)
        raise click.exceptions.Exit(EXIT_CODES[error.failure]) from error
    seconds = time.monotonic() - started
    rate = megabytes(summary.bytes / seconds if seconds else 0)
    closing = (
        f"fetched {summary.files} files, {megabytes(summary.bytes)} MB in {seconds:.1f} s ({rate} MB/s), "
        f"sha256 {summary.sha256}"
    )
    _leave(termination_log, closing)
    click.echo(closing)


@contextmanager
def _reporting(progress: Progress, started: float) -> Iterator[None]:
    """How far it is, and what went wrong and is tried again, every two seconds until the work is done."""
    done = threading.Event()

    def report() -> None:
        while True:
            last = done.wait(REPORT_SECONDS)
            for note in progress.take_notes():
                click.echo(note)
            if progress.total_files:
                click.echo(progress.line(time.monotonic() - started))
            if last:
                return

    reporter = threading.Thread(target=report, name="progress", daemon=True)
    reporter.start()
    try:
        yield
    finally:
        done.set()
        reporter.join()


def _leave(termination_log: Path, message: str) -> None:
    # The kubelet makes the file; anywhere else there is none, and none is made.
    if termination_log.exists():
        termination_log.write_text(message[:MESSAGE_LIMIT], encoding="utf-8")
