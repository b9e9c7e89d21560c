"""Decode on a cluster of three nodes: two with workers that hold a CPU, one with a free CPU.

The arguments are a folder, and the ids of the nodes with workers. It prints, for each part of the
test, how many images were decoded by each node and how many of them are different, and whether the
pixels are right. Each node keeps its own files.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from lotus_ray.cluster.decode_jobs import running_queue
from lotus_ray.data.pixels.chunks import ChunkFolder
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
            by_node = Counter[str]()
            for record in folder.records():
                by_node[record.node] += len(record.sample_ids)
            answer = {"decoded": [count for count, _ in done], "by_node": by_node}
            print(json.dumps(answer | {"right": all(right for _, right in done)}), flush=True)
    ray.shutdown()


if __name__ == "__main__":
    main()
