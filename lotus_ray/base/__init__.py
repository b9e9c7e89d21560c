"""Errors, seeds, role names, memory, machine facts and timestamps. Every room may use them."""
