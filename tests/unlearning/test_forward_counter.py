from __future__ import annotations

import torch
from torch import nn
from torch.func import functional_call, vmap

from lotus_ray.unlearning.forward_counter import BACKWARDS, STUDENT, TEACHER, ForwardCounter


def test_images_are_counted_by_name_while_watched() -> None:
    student, teacher = nn.Linear(2, 2), nn.Linear(2, 2)
    with ForwardCounter().counting() as forwards:
        assert forwards.watch(student, STUDENT) is student
        forwards.watch(teacher, TEACHER)
        student(torch.zeros(3, 2))
        student(torch.zeros(4, 2))
        teacher(torch.zeros(5, 2))
    student(torch.zeros(9, 2))
    assert forwards.images == {STUDENT: 7, BACKWARDS: 7, TEACHER: 5}


def test_only_a_forward_that_is_recorded_has_a_backward() -> None:
    student = nn.Linear(2, 2)
    with ForwardCounter().counting() as forwards:
        forwards.watch(student, STUDENT)
        student(torch.zeros(3, 2)).sum().backward()
        with torch.no_grad():
            student(torch.zeros(4, 2))
        with torch.inference_mode():
            student(torch.zeros(5, 2))
    assert forwards.images == {STUDENT: 12, BACKWARDS: 3}


def test_images_under_vmap_are_counted_one_by_one() -> None:
    """Six images, each alone in its batch, as SSD takes gradients of samples."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    state = dict(model.named_parameters())
    with ForwardCounter().counting() as forwards:
        forwards.watch(model, STUDENT)
        vmap(lambda image: functional_call(model, state, (image[None],)))(torch.zeros(6, 3, 2, 2))
    assert forwards.images[STUDENT] == 6
