"""Folding the log again: rebuilding a projection, and comparing one with the log."""
