"""What the start of the operator must not load: the memory at the start is promised."""

from __future__ import annotations

import subprocess
import sys

LAZY = ("numpy", "grpc", "tritonclient", "kubernetes.client.models.v1_pod", "kubernetes.aio.client.models.v1_pod")


def test_libraries_of_megabytes_wait_for_their_first_use() -> None:
    program = (
        "import sys\n"
        "import modelrollout.adapters.kubernetes, modelrollout.adapters.lease, modelrollout.adapters.triton\n"
        "import modelrollout.adapters.gateway, modelrollout.telemetry, kopf\n"
        "print(*(name for name in sys.argv[1:] if name in sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", program, *LAZY], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
