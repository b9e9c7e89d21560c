"""The rows of the table, by the names that jobs use. One file a method."""

from lotus_ray.methods.finetune import Finetune
from lotus_ray.methods.gold import Gold
from lotus_ray.methods.lotus import Lotus
from lotus_ray.methods.original import Original
from lotus_ray.problem import Method

METHODS: dict[str, type[Method]] = {
    method.name: method for method in (Original, Gold, Finetune, Lotus)
}

__all__ = ["METHODS"]
