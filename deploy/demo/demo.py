"""The demo's command: brings a cluster up, tells the story, writes the report. `make demo` runs it."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
# Run as a file, Python puts this folder first on the path; the modules are found from the checkout's root.
sys.path[0:1] = [str(REPO)] if __package__ in (None, "") else sys.path[0:1]

from deploy.demo import outcome, place, preflight  # noqa: E402
from deploy.demo.kube import Kube, KubeError, WaitError  # noqa: E402
from deploy.demo.report import Report  # noqa: E402
from deploy.demo.story import Options, Story  # noqa: E402
from deploy.demo.view import Scene, Screen  # noqa: E402

FOLDER = place.LOCAL / "demo"


def parsed(arguments: list[str]) -> tuple[Options, Path]:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="demo.py",
        description="Three versions of a digits model on a real cluster: one promoted, one taken back.",
        epilog=place.VARIABLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    standard = Options()
    parser.add_argument("--namespace", default=standard.namespace, help="namespace of the demo (default: %(default)s)")
    parser.add_argument("--hostname", default=standard.hostname, help="host name clients use (default: %(default)s)")
    parser.add_argument("--rate", type=float, default=standard.rate, help="requests a second (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=FOLDER, help="folder of the report (default: .local/demo)")
    given = parser.parse_args(arguments)
    options = Options(namespace=given.namespace, hostname=given.hostname, rate=given.rate, prefix=given.namespace)
    return options, given.output.absolute()


async def told(options: Options, folder: Path) -> int:
    """Run the whole demo; returns the exit code."""
    existing = os.environ.get("CLUSTER", "") == "existing"
    if existing:
        where = place.existing_place(os.environ)
    else:
        if os.environ.get("KUBECONFIG"):
            print("KUBECONFIG is set and left alone: the demo uses its local cluster (CLUSTER=existing uses yours)")
        await asyncio.to_thread(place.bring_up_local)
        where = place.local_place()
    screen = Screen(Scene(began=time.time()))
    async with Kube.connect(where.kubeconfig) as kube:
        if existing:
            where = await preflight.checked(where, kube)
        story = Story(where, kube, screen, options, folder)
        await story.tell()
        screen.chapter("What came of it")
        report = await outcome.concluded(story, kube, folder)
    summary(screen, report, story, folder)
    return 0 if report.went_right else 1


def summary(screen: Screen, report: Report, story: Story, folder: Path) -> None:
    """Print what came of it, and where to look."""
    for version in report.versions:
        accuracy = f"{version.accuracy:.1%} right" if version.accuracy is not None else "no answers"
        screen.say(f"{version.version}  {version.outcome:<10}  {accuracy}  ({version.revision})")
    screen.say(f"{report.total} requests, {report.failed_by_traffic} failed by moving traffic")
    for name, value in (("route write", report.write_seconds), ("last bad answer", report.last_answer_seconds)):
        shown = f"{value:.2f} s" if value is not None else f"not measured: {report.explanation}"
        screen.say(f"first bad sample to {name}: {shown}")
    for one in report.expectations:
        screen.say(f"{'ok    ' if one.met else 'FAILED'} {one.name}", "green" if one.met else "bold red")
        if not one.met:
            screen.say(f"       expected: {one.expected}", "red")
            screen.say(f"       is:       {one.seen}", "red")
            if one.look:
                screen.say(f"       look:     {one.look}", "red")
    kubectl, namespace = story.place.kubectl, story.options.namespace
    screen.console.print()
    screen.say(f"report        {shown_path(folder / 'report.html')} (and report.json, picture.png)")
    screen.say(f"look around   {kubectl} -n {namespace} get mdep,mrev,pods,httproute")
    screen.say(f"events        {kubectl} -n {namespace} get events --sort-by=.lastTimestamp")
    if story.place.local:
        screen.say("the cluster stays up; remove it with: make cluster-down")
    else:
        screen.say(
            f"remove        {kubectl} delete namespace {namespace}; helm -n modelrollout-system uninstall modelrollout"
        )


def shown_path(path: Path) -> str:
    """A path as a person in the checkout would write it."""
    return str(path.relative_to(REPO) if path.is_relative_to(REPO) else path)


def main(arguments: list[str] | None = None) -> int:
    """Entry point: 0 when the story went right, 1 when it did not, 2 when it cannot run here, 130 when interrupted."""
    options, folder = parsed(sys.argv[1:] if arguments is None else arguments)
    try:
        return asyncio.run(told(options, folder))
    except place.UnusableError as error:
        print(f"\nThe demo cannot run:\n{error}", file=sys.stderr)
        return 2
    except (KubeError, WaitError) as error:
        print(f"\nThe demo failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(
            "\nInterrupted. What runs stays; `make demo` begins anew, `make cluster-down` removes all.", file=sys.stderr
        )
        return 130


if __name__ == "__main__":
    sys.exit(main())
