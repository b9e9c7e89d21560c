"""The request before, whose output is the input of this one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lotus_ray.audit.commitment import CommitmentKey
from lotus_ray.audit.envelope import read_envelope, read_statement
from lotus_ray.audit.folder import WEIGHTS, Record, chain_name, read_record
from lotus_ray.audit.predicate import Chain, Predicate
from lotus_ray.audit.verify import check_files
from lotus_ray.base.errors import JobError


@dataclass(frozen=True)
class Earlier:
    """The records before a request; none of them for the first one."""

    records: tuple[bytes, ...] = ()  # the files, the first one first
    predicates: tuple[Predicate, ...] = ()
    digest: str | None = None  # of the last one's file
    weights: Path | None = None  # the last one's output

    @classmethod
    def read(cls, folder: Path | None, key: CommitmentKey | None) -> Earlier:
        """Read the folder of the request before, and check that it is whole.

        Raises:
            RecordError: it is damaged.
            JobError: a gate of it failed, or the commitment key is another one.
        """
        if folder is None or key is None:
            return cls()
        record = read_record(folder)
        for finding in check_files(record):
            if finding.error:
                raise finding.error
        if record.predicate.outcome == "failed":
            raise JobError("a gate of the request before failed", where=f"--after {folder}")
        if record.predicate.commitments.key_check != key.check:
            raise JobError(
                "the commitment key is not the one of the request before",
                where=f"--after {folder}",
                next_command="give the key of that request: --commitment-key FILE",
            )
        contents = [(folder / name).read_bytes() for name in record.chain_names]
        predicates = [_predicate(content, record) for content in contents]
        return cls(
            (*contents, record.content),
            (*predicates, record.predicate),
            record.digest,
            folder / WEIGHTS,
        )

    def notes(self, weights: Path | None, model: str | None) -> list[str]:
        """Return a line for each option that is not used, as the record before says it already."""
        if not self.predicates:
            return []
        own = self.predicates[-1].input_model.name
        lines = (
            [f"--weights {weights} is not used: the model is that of --after"] if weights else []
        )
        if model not in (None, own):
            lines.append(f"--model {model} is not used: the model of --after is {own}")
        return lines

    def note_on_images(self, manifest_sha256: str) -> str:
        """Return a line if the images are others than those of the record before, else nothing."""
        if not self.predicates or self.predicates[-1].data.manifest_sha256 == manifest_sha256:
            return ""
        return (
            "the images are others than those of the request before: if held-out ones differ, the "
            "loss of accuracy over all requests compares figures of different images"
        )

    def forgotten_among(
        self, sample_ids: Sequence[str], key: CommitmentKey | None
    ) -> frozenset[str]:
        """Return the ids that earlier records forgot. Without a key, there are none."""
        tags = {tag for predicate in self.predicates for tag in predicate.commitments.ids}
        if key is None or not tags:
            return frozenset()
        return frozenset(each for each in sample_ids if key.tag(each) in tags)

    def files(self) -> dict[str, bytes]:
        """Return the files of the chain in the folder of the next request, by name."""
        return {chain_name(n): content for n, content in enumerate(self.records, start=1)}

    def chain(
        self, requests: int, before: float | None, after: float | None, retrain_at: float
    ) -> Chain:
        """Return the place of the next record.

        Args:
            requests: of the next record.
            before: held-out accuracy of its model before.
            after: held-out accuracy of its model after.
            retrain_at: the drift from which on the model should be retrained.
        """
        first = self.predicates[0].chain.first_heldout_accuracy if self.predicates else before
        drift = None if first is None or after is None else first - after
        return Chain(
            position=len(self.records) + 1,
            previous_sha256=self.digest,
            requests_so_far=requests + sum(len(each.requests) for each in self.predicates),
            first_heldout_accuracy=first,
            drift=drift,
            retrain_at=retrain_at,
            retrain_now=drift is not None and drift > retrain_at,
        )


def _predicate(content: bytes, record: Record) -> Predicate:
    name = str(record.folder)
    return read_statement(read_envelope(content, name), name)[1]
