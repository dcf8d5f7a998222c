"""Tests of connections on servers with encryption and logins, beside ones without."""
