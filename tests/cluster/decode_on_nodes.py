"""Decode on a cluster of three nodes: two with workers that hold a CPU, one with a free CPU.

The arguments are a folder, and the ids of the nodes with workers. It prints, for each part of the
test, how many images were decoded by each node and how many of them are different, and whether the
pixels are right. Each node keeps its own files. Then the images of one more seed are brought to a
node before it wants them, and decoded by the node with a free CPU. Then it streams: beside free
CPUs, beside none, and beside none where the workers believe that there is one.
"""

from __future__ import annotations

import json
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from lotus_ray.cluster.decode_jobs import running_queue
from lotus_ray.data.pixels.chunks import ChunkFolder
from lotus_ray.data.pixels.decode_task import decode_here
from lotus_ray.data.pixels.lookup import Decoded
from lotus_ray.data.pixels.wanted import wanted_row_groups
from lotus_ray.data.prepared.write import prepare
from lotus_ray.data.roles.table import Roles
from lotus_ray.data.sources import TRAIN
from tests.toy import PLAIN, Sample, png, source, table

IMAGES, WANTED = 300, 120


def drawn(seed: int) -> Roles:
    """Return WANTED images that a seed draws."""
    chosen = np.sort(np.random.default_rng(seed).choice(IMAGES, WANTED, replace=False))
    roles = table("frut" * (WANTED // 4))
    return Roles([f"s{n:03d}" for n in chosen], roles.labels, roles.roles, roles.num_classes)


def work(data: Path, folder: ChunkFolder, scratch: Path, seeds: list[int], threads: int) -> object:
    """Want the images of some seeds on this node; return how many were decoded for it."""
    from lotus_ray.cluster import decoder
    from lotus_ray.data.pixels.cache import DecodedFiles
    from lotus_ray.data.pixels.cache_space import CacheSpace

    vars(decoder)["FEW_BYTES"] = 0  # so that Ray Data starts for few images too
    scratch.mkdir(exist_ok=True)
    space = CacheSpace(0, 1 << 30, str(scratch), session=scratch.name[:12])
    decoded, right = 0, True
    with space.locked():
        for seed in seeds:
            roles, files = drawn(seed), DecodedFiles(space, PLAIN)
            decode = decoder.Decoder(threads, space.decode_log).once(folder)
            files.ensure(wanted_row_groups([data], roles), roles, decode)
            pixels = files.pixels(roles)
            levels = [int(pixels.image(row).max()) for row in range(WANTED)]
            right = right and levels == [int(name[1:]) % 256 for name in roles.sample_ids]
            decoded += files.decoded
    return decoded, right


def bring(data: Path, folder: ChunkFolder, scratch: Path, seed: int, on: str) -> list[int]:
    """Bring the images of a seed to this node, decoded by another one.

    Args:
        data: the prepared data set.
        folder: of the chunks.
        scratch: of this node.
        seed: that draws the images.
        on: the id of the node that decodes.

    Returns:
        How many images are in no chunk before, and how many are decoded when they are wanted.
    """
    from lotus_ray.cluster import ahead
    from lotus_ray.data.pixels.cache_space import CacheSpace
    from lotus_ray.trial.images import files_of

    roles, own = drawn(seed), vars(ahead)
    own |= {"ensure_access": lambda order: None, "load_roles": lambda order: roles}
    own["ChunkFolder"] = lambda *arguments: folder
    space = CacheSpace(0, 1 << 30, str(scratch), session="a" * 12)
    group = SimpleNamespace(manifests=(data,), transform=PLAIN)
    about = {"store": folder.store, "chunks_key": folder.key, "max_bad_images": 0}
    order: Any = SimpleNamespace(group=group, cache_space=space, **about)
    kept = {name for record in folder.records() for name in record.sample_ids}
    with space.locked():
        ahead.bring(order, {on: 1}, threading.Event())
        files = files_of(group, space)  # type: ignore[arg-type]
        files.ensure(wanted_row_groups([data], roles), roles, decode_here)
        space.clear()
    return [len(set(roles.sample_ids) - kept), files.decoded]


def by_node(folder: ChunkFolder) -> Counter[str]:
    """Return how many images of the chunks each node decoded."""
    counts = Counter[str]()
    for record in folder.records():
        counts[record.node] += len(record.sample_ids)
    return counts


class Streaming:
    """A worker that holds a CPU, as an actor does: it lends none while it waits in Ray."""

    def stream(self, data: Path, believed_free: int | None) -> tuple[int, bool]:
        """Stream the images of a seed; return how many this process decoded, and if all is right.

        Args:
            data: the prepared data set.
            believed_free: what the worker believes of free CPUs; None: what Ray says.
        """
        from lotus_ray.cluster import stream
        from lotus_ray.data.pixels.lookup import stream_here

        own, names = vars(stream), drawn(0).sample_ids
        own["STALL_SECONDS"] = 60.0
        if believed_free is not None:
            own["STALL_SECONDS"] = 8.0
            own["free_cpus"] = lambda: believed_free
        here = 0

        def count(*arguments: Any) -> Iterator[Decoded]:
            nonlocal here
            for rows, pixels in stream_here(*arguments):
                here += len(rows)
                yield rows, pixels

        own["stream_here"] = count
        groups = wanted_row_groups([data], drawn(0))
        found = list(stream.stream_pixels(groups, PLAIN, 1, workers=1, ahead_bytes=1 << 20))
        rows = np.concatenate([rows for rows, _ in found])
        levels = np.concatenate([pixels for _, pixels in found])[:, 0, 0, 0].tolist()
        expected = np.concatenate([group.rows for group in groups])
        right = [int(names[row][1:]) % 256 for row in expected]
        return here, rows.tolist() == expected.tolist() and levels == right


def stream_on(nodes: list[str], data: Path, believed_free: int | None = None) -> object:
    """Stream on some nodes at once, each by an actor that holds its CPU."""
    actor = ray.remote(Streaming)
    actors = [
        actor.options(
            num_cpus=1, scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)
        ).remote()
        for node in nodes
    ]
    ray.get([each.__ray_ready__.remote() for each in actors])
    answers = ray.get([each.stream.remote(data, believed_free) for each in actors])
    for each in actors:
        ray.kill(each)
    return answers


def main() -> None:
    root, *nodes = Path(sys.argv[1]), *sys.argv[2:]
    content = [png(np.full((2, 2, 3), n % 256, np.uint8)) for n in range(IMAGES)]
    samples = [Sample(f"s{n:03d}", TRAIN, one, "", 0) for n, one in enumerate(content)]
    data = prepare(source(samples, ("a",)), root / "data").directory
    folder = ChunkFolder(str(root / "store"), "key", PLAIN, most=8)
    ray.init(log_to_driver=False)
    task = ray.remote(work)
    with running_queue():
        for seeds, threads in (([0], 0), ([1, 2], 1)):
            done = ray.get(
                [
                    task.options(
                        num_cpus=1,
                        scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False),
                    ).remote(data, folder, root / node, seeds, threads)
                    for node in nodes
                ]
            )
            answer = {"decoded": [count for count, _ in done], "by_node": by_node(folder)}
            print(json.dumps(answer | {"right": all(right for _, right in done)}), flush=True)
        before = by_node(folder)
        (free,) = {node["NodeID"] for node in ray.nodes() if node["Alive"]} - set(nodes)
        here = NodeAffinitySchedulingStrategy(nodes[0], soft=False)
        work_ahead = ray.remote(bring).options(num_cpus=1, scheduling_strategy=here)
        new, late = ray.get(work_ahead.remote(data, folder, root / nodes[0], 3, free))
        answer = {"new": new, "late": late, "by_node": by_node(folder) - before}
        print(json.dumps(answer), flush=True)
    everywhere = [node["NodeID"] for node in ray.nodes() if node["Alive"]]
    for on, believed in ((nodes[:1], None), (everywhere, None), (everywhere, 1)):
        print(json.dumps({"streamed": stream_on(on, data, believed)}), flush=True)
    ray.shutdown()


if __name__ == "__main__":
    main()
