"""The version of this package. Modules ask here: `lotus_ray` itself is the face for users."""

from importlib.metadata import version

VERSION = version("lotus-ray")
