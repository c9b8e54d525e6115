"""Makes the parts of benchmarks/accuracy importable."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "accuracy"))
