"""Errors, seeds, role names, memory and times: what every other room may use."""
