"""Networks of every family are built, trained for a step and evaluated, or refused by name."""

from __future__ import annotations

import pytest
import timm
import torch
import torchvision
from torch.nn import functional

from lotus_ray import models
from lotus_ray.base.errors import JobError
from lotus_ray.data.pixels.transform import Transform
from lotus_ray.job.networks import Network
from lotus_ray.models import ModelSpec
from lotus_ray.models.image_size import ImageSize, smallest_images
from lotus_ray.models.layout import blocks_of, head_of
from lotus_ray.unlearning.engine import unlearn
from lotus_ray.unlearning.methods.finetune import Finetune
from lotus_ray.unlearning.methods.gradients import gradient_share
from tests.models.families import OTHERS, VARIED
from tests.toy import make_dataset, make_problem, make_roles

CLASSES = 3
PARTS = 48  # of the whole list


def size_of(name: str) -> ImageSize:
    """Return the smallest images of a model, without computing anything."""
    with torch.device("meta"):
        network = models.build(ModelSpec(name, CLASSES), "size")
    return smallest_images(name, network, CLASSES)


def train_and_evaluate(name: str) -> None:
    """Two images to keep and one to forget: a step on the CPU, gradients and an accuracy."""
    pixels = size_of(name).pixels
    images = torch.randint(0, 256, (3, 3, pixels, pixels), generator=torch.manual_seed(1))
    dataset = make_dataset(
        images.to(torch.uint8),
        make_roles("frr", [0, 1, 2], CLASSES),
        transform=Transform(img_size=pixels, mean=(0.0,) * 3, std=(1.0,) * 3),
        dtype=torch.float32,
    )
    problem = make_problem(models.build(ModelSpec(name, CLASSES), "every"), dataset)
    (record,) = unlearn(Finetune(epochs=1, lr=0.01), problem)
    assert len(record.losses) == 1
    before = dict(problem.original.named_parameters())
    moved = [n for n, v in problem.model.named_parameters() if not torch.equal(v, before[n])]
    assert len(moved) > len(before) / 2
    assert f"{problem.head}.weight" in moved
    assert f"{problem.head}.weight" in problem.blocks[-1]
    shares = gradient_share(problem, next(iter(problem.forget)))
    assert [share.shape for share in shares] == [value.shape for value in before.values()]
    assert problem.accuracy(problem.model, problem.retain) in (0, 0.5, 1)


@pytest.mark.parametrize("name", VARIED)
def test_varied_networks_are_trained_and_evaluated(name: str) -> None:
    train_and_evaluate(name)


@pytest.mark.models
@pytest.mark.parametrize("name", OTHERS)
def test_a_network_of_every_other_family_is_trained_and_evaluated(name: str) -> None:
    train_and_evaluate(name)


@pytest.mark.models
def test_the_families_are_all_that_there_are() -> None:
    """A class of network that a new version brings is missed here."""
    known = {_family(name) for name in (*VARIED, *OTHERS)}
    assert {name for name in models.names() if _family(name) not in known} == set()


def _family(name: str) -> str:
    """Return the class of a network."""
    with torch.device("meta"):
        network = models.build(ModelSpec(name, CLASSES), "family")
    return f"{type(network).__module__}.{type(network).__name__}"


@pytest.mark.models
@pytest.mark.parametrize("part", range(PARTS))
def test_every_name_can_be_trained(part: int) -> None:
    """Without computing: logits in both modes, a gradient, a head and blocks."""
    failed = {}
    for name in models.names()[part::PARTS]:
        try:
            _check_on_meta(name)
        except Exception as error:  # of all names, not of the first alone
            failed[name] = f"{type(error).__name__}: {error}"
    assert failed == {}


def _check_on_meta(name: str) -> None:
    """Take a step at the smallest size, in shapes alone."""
    with torch.device("meta"):
        network = models.build(ModelSpec(name, CLASSES), "every")
        size = smallest_images(name, network, CLASSES)
        images = torch.zeros(2, 3, size.pixels, size.pixels)
        loss = functional.cross_entropy(network.train()(images), torch.zeros(2, dtype=torch.int64))
        loss.backward()
        with torch.no_grad():
            assert network.eval()(images).shape == (2, CLASSES)
    head = network.get_submodule(head_of(network))
    assert isinstance(head, torch.nn.Linear | torch.nn.Conv2d)
    assert head.weight.shape[0] == CLASSES
    assert head.weight.grad is not None
    flat = [parameter for block in blocks_of(network) for parameter in block]
    assert sorted(flat) == sorted(parameter for parameter, _ in network.named_parameters())


REFUSED = {
    "torchvision/fasterrcnn_resnet50_fpn": "it finds objects in images",
    "torchvision/fcn_resnet50": "it labels the pixels of an image",
    "torchvision/quantized_resnet18": "its weights are integers",
    "torchvision/r3d_18": "it takes videos",
    "torchvision/raft_small": "it estimates motion",
    "mobilenetv5_300m_enc": "it is an encoder without a classifier",
    "gemma4_vit_167m_enc.gemma4_e4b_it": "it is an encoder without a classifier",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_classifier_is_refused_by_name(name: str) -> None:
    with pytest.raises(JobError) as raised:
        models.check_name(name, "grid.models[0].name")
    assert raised.value.what.startswith(f"{name} is no image classifier: {REFUSED[name]}")
    assert raised.value.where == "grid.models[0].name"
    assert name not in models.names()


def test_the_list_leaves_out_nothing_else() -> None:
    left_out = set(timm.list_models()) - set(models.names())
    assert left_out == {name for name in timm.list_models() if name.endswith("_enc")}
    known = torchvision.models.list_models(torchvision.models)
    assert {f"torchvision/{name}" for name in known} < set(models.names())


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("resnet18_cifar", ImageSize(32, False)),
        ("torchvision/vit_b_16", ImageSize(224, True)),
        ("inception_v3", ImageSize(96, False)),
        ("test_vit", ImageSize(32, False)),  # its position embedding is resized
        ("vit_tiny_patch16_224", ImageSize(224, True)),
        ("torchvision/maxvit_t", ImageSize(224, True)),
    ],
)
def test_the_smallest_images_of_a_network(name: str, size: ImageSize) -> None:
    assert size_of(name) == size


@pytest.mark.parametrize(
    ("name", "takes"),
    [
        ("inception_v3", "images of 96 pixels or more"),
        ("vit_tiny_patch16_224", "images of 224 pixels alone"),
    ],
)
def test_a_size_that_does_not_fit_is_refused_with_one_that_does(name: str, takes: str) -> None:
    with pytest.raises(JobError, match=f"{name} does not take images of 32 pixels") as raised:
        Network(ModelSpec(name, CLASSES), None, 32).check()
    assert raised.value.nearest == takes
    Network(ModelSpec(name, CLASSES), None, size_of(name).pixels).check()


def test_a_network_that_answers_otherwise_in_training_mode_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As levit with distilled_training: its two heads are not averaged then."""
    with torch.device("meta"):
        network = timm.create_model("levit_128s", num_classes=CLASSES)
    network.set_distilled_training(True)
    monkeypatch.setattr(models, "_create", lambda spec: network)
    with pytest.raises(JobError, match="in training mode it answers with a tuple"):
        Network(ModelSpec("levit_128s", CLASSES), None, 224).check()
