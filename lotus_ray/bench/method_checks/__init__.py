"""The checks that every method must pass, on a small problem: `lotus-ray check-method`.

The tests of this repository run the same checks on each built-in method.
"""
