"""How many bytes a grid downloads and decodes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lotus_ray.data.pixels.transform import Transform
from lotus_ray.data.prepared.manifest import Manifest, read_manifest
from lotus_ray.data.roles.table import Roles
from lotus_ray.job.networks import Network, distinct_networks, networks
from lotus_ray.job.work_order import WorkOrder


@dataclass(frozen=True)
class Traffic:
    """What a machine that holds no data yet downloads and decodes. Only `images` is exact."""

    weights: int  # bytes of pretrained weights that this machine lacks
    remote: int  # bytes of remote Parquet files that hold a wanted image: the most to download
    images: int  # to decode, once for each transform
    encoded: int  # bytes of these images in local files
    pixels: int  # bytes of these images once they are decoded


def traffic(
    work_orders: Sequence[WorkOrder],
    roles: Mapping[str, Roles],
    manifests: Mapping[Path, Manifest],
) -> Traffic:
    """Return what the missing cells of some groups download and decode.

    Args:
        work_orders: groups with missing cells.
        roles: tables of roles, by name in the store.
        manifests: of data sets, by folder. Others are read.

    Raises:
        DataError: a manifest cannot be read.
    """
    wanted: dict[tuple[tuple[Path, ...], Transform], dict[str, Roles]] = defaultdict(dict)
    for order in work_orders:
        group = order.group
        tables = wanted[group.manifests, group.transform]
        tables[group.roles_name] = roles[group.roles_name]
    remote = images = encoded = pixels = 0
    for (folders, transform), tables in wanted.items():
        ids = {name for table in tables.values() for name in table.sample_ids}
        parts = [manifests.get(folder) or read_manifest(folder) for folder in folders]
        far, near = _file_bytes(parts, ids)
        remote, encoded = remote + far, encoded + near
        images, pixels = images + len(ids), pixels + len(ids) * transform.image_bytes
    distinct = distinct_networks(networks(order.group for order in work_orders))
    return Traffic(_weights_bytes(distinct), remote, images, encoded, pixels)


def _weights_bytes(distinct: Iterable[Network]) -> int:
    """Return bytes of pretrained weights to download; each file counts once."""
    files = {(n.model.name, n.model.pretrained): n for n in distinct if not n.checkpoint}
    return sum(network.bytes_to_download() for network in files.values())


def _file_bytes(manifests: Sequence[Manifest], ids: Collection[str]) -> tuple[int, int]:
    """Return the bytes of some images in remote and in local files.

    Of external files, which are read by row group, every file counts that holds an image. Prepared
    images count as large as their data set's mean.
    """
    files = {name.rpartition(":")[0] for name in ids}  # external ids are SPLIT/FILE:ROW
    external = {
        manifest.uri(shard): shard.bytes
        for manifest in manifests
        if manifest.is_external
        for shard in manifest.shards
        if manifest.file_id(shard) in files
    }
    remote = sum(size for uri, size in external.items() if _is_remote(uri))
    near = sum(external.values()) - remote
    prepared = [s for manifest in manifests if not manifest.is_external for s in manifest.shards]
    rows = sum(shard.rows for shard in prepared)
    share = min(len(ids) / rows, 1.0) if rows else 0.0
    size_far = sum(shard.bytes for shard in prepared if _is_remote(shard.file))
    size_near = sum(shard.bytes for shard in prepared) - size_far
    return remote + round(size_far * share), near + round(size_near * share)


def _is_remote(uri: str) -> bool:
    return "://" in uri and not uri.startswith("file://")
