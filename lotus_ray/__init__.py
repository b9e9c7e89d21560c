"""lotus-ray: a distributed batch runner for machine unlearning of image classifiers, on Ray."""

from importlib.metadata import version

__version__ = version("lotus-ray")
