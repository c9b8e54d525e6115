"""`python -m blinkloop.runtime.deadman`: started by a run, never by hand."""

from __future__ import annotations

import os

from blinkloop.runtime.deadman.process import main

# At once: a bridge's exit hooks wait for ever for a Micro-Manager that has gone.
os._exit(main())
