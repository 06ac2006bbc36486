"""Command line of the local cluster: one real Kubernetes on this machine. See docs/local-cluster.md."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from localcluster.cli import main

if __name__ == "__main__":
    sys.exit(main())
