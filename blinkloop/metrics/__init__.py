"""Accuracy measures."""
