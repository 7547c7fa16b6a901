"""Measure a trained bot and show what was measured."""
