"""Traces: events as text that people read and diff."""
