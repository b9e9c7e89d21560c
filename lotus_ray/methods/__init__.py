"""The rows of the table, by the names that jobs use. One file a method."""

from lotus_ray.methods.bad_teacher import BadTeacher
from lotus_ray.methods.finetune import Finetune
from lotus_ray.methods.gold import Gold
from lotus_ray.methods.lotus import Lotus
from lotus_ray.methods.neggrad_plus import NegGradPlus
from lotus_ray.methods.original import Original
from lotus_ray.methods.relabel import Relabel
from lotus_ray.methods.salun import Salun
from lotus_ray.methods.scrub import Scrub
from lotus_ray.methods.ssd import Ssd
from lotus_ray.methods.unsir import Unsir
from lotus_ray.problem import Method

METHODS: dict[str, type[Method]] = {
    method.name: method
    for method in (
        Original,
        Gold,
        Finetune,
        NegGradPlus,
        Relabel,
        BadTeacher,
        Scrub,
        Ssd,
        Unsir,
        Salun,
        Lotus,
    )
}
Salun.default_inner = Relabel  # the table's row; a job may name any other

__all__ = ["METHODS"]
