"""The methods, by the names that jobs use. Each has a file of its own."""

from lotus_ray.unlearning.method import Method
from lotus_ray.unlearning.methods.amun import Amun
from lotus_ray.unlearning.methods.bad_teacher import BadTeacher
from lotus_ray.unlearning.methods.boundary_shrink import BoundaryShrink
from lotus_ray.unlearning.methods.certified_noise import CertifiedNoise
from lotus_ray.unlearning.methods.cf_k import CfK
from lotus_ray.unlearning.methods.ct import Ct
from lotus_ray.unlearning.methods.delete import Delete
from lotus_ray.unlearning.methods.eu_k import EuK
from lotus_ray.unlearning.methods.fcs import Fcs
from lotus_ray.unlearning.methods.finetune import Finetune
from lotus_ray.unlearning.methods.gold import Gold
from lotus_ray.unlearning.methods.jit import Jit
from lotus_ray.unlearning.methods.l1_sparse import L1Sparse
from lotus_ray.unlearning.methods.lotus import Lotus
from lotus_ray.unlearning.methods.msg import Msg
from lotus_ray.unlearning.methods.munba import Munba
from lotus_ray.unlearning.methods.neggrad_plus import NegGradPlus
from lotus_ray.unlearning.methods.original import Original
from lotus_ray.unlearning.methods.relabel import Relabel
from lotus_ray.unlearning.methods.salun import Salun
from lotus_ray.unlearning.methods.scrub import Scrub
from lotus_ray.unlearning.methods.sfron import Sfron
from lotus_ray.unlearning.methods.ssd import Ssd
from lotus_ray.unlearning.methods.unsir import Unsir

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
        L1Sparse,
        Msg,
        Ct,
        Fcs,
        Delete,
        BoundaryShrink,
        Sfron,
        Munba,
        Jit,
        Amun,
        CertifiedNoise,
        CfK,
        EuK,
    )
}
Salun.default_inner = Relabel  # as in the published tables; a job may name any other


def registered_name(given: str) -> str:
    """Return the name in METHODS of a method that is given by its name or its label: SSD, ssd.

    Upper and lower case count as the same. What names no method is returned as it is.
    """
    wanted = given.strip().lower()
    for name, method in METHODS.items():
        if wanted in (name.lower(), method.label.lower()):
            return name
    return given


__all__ = ["METHODS", "registered_name"]
