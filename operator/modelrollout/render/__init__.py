"""Desired objects as plain data, and what live ones say. Pure: no I/O, no clock."""
