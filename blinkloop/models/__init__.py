"""Bundled model files; `blinkloop models` lists them."""
