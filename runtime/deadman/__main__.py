"""`python -m blinkloop.runtime.deadman`: started by a run, never by hand."""

from __future__ import annotations

import sys

from blinkloop.runtime.deadman.process import main

sys.exit(main())
