"""Settings of all tests."""

from __future__ import annotations

import os

from hypothesis import settings

# No deadline: the machines are shared, and a slow example is not a wrong one. In CI the
# examples are the same every time, so that a red run can be repeated.
settings.register_profile("here", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "here")
