"""Empathetic spoken chatbots around a frozen language model."""

__version__ = "0.1.0"
