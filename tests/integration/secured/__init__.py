"""Tests on secured servers: one user for each role."""
