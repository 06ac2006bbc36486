"""``python -m modelrollout`` is the ``modelrollout`` command."""

from modelrollout.cli import main

main()
