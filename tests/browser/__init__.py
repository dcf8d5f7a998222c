"""Tests of the page of the dashboard, in a real browser."""
