"""The README's first command: the wheel with only the `demo` extra runs the demo.

Run with the environment's own interpreter, isolated (-I), in a folder that may be
written to; the argument is the environment's folder.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

KEYS = {
    "density_achieved_per_um2",
    "density_target_per_um2",
    "files",
    "frames_localized",
    "frames_lost",
    "frames_seen",
    "frames_skipped",
    "jaccard",
    "laser_commands",
    "latency_ms",
    "localizations",
    "rmse_axial_nm",
    "rmse_lateral_nm",
}


def main() -> None:
    """Exit with a message when something does not hold."""
    command = [str(Path(sys.executable).with_name("blinkloop")), "demo"]
    done = subprocess.run(
        [*command, "--seconds", "20", "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"exit {done.returncode}\n{done.stderr}")
    result = json.loads(done.stdout)
    print(json.dumps(result, indent=1))
    if missing := KEYS - set(result):
        sys.exit(f"the demo does not report {sorted(missing)}")
    if result["frames_lost"] or not result["localizations"]:
        sys.exit("frames were lost or nothing was localized")
    for name, file in result["files"].items():
        if not Path(file).exists():
            sys.exit(f"the demo reports {name} {file}, which does not exist")


if __name__ == "__main__":
    main()
