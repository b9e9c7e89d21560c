"""The KubeRay manifest against what its public definition allows, and against what we want.

The rules name the fields of RayJob (ray.io/v1) and of a pod that the manifest uses; any other one
is refused. Each rule is broken once, to show that it can fail.
"""

from __future__ import annotations

import copy
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from lotus_ray.base.errors import JobError
from lotus_ray.job.load import load_job
from lotus_ray.job.schema.resources import Resources
from tests.rules import ANY, Must, leaves, wrong

ROOT = Path(__file__).parents[2]
FILE = ROOT / "jobs" / "clusters" / "kuberay-rayjob.yaml"
Manifest = dict[str, Any]

CPU = re.compile(r"\d+m?")
MEMORY = re.compile(r"\d+[MG]i")
NAME = re.compile(r"[a-z]([a-z0-9-]*[a-z0-9])?")
AMOUNTS = {"cpu": CPU, "memory": MEMORY, "nvidia.com/gpu": int}
RESOURCES = Must(requests=AMOUNTS, limits=AMOUNTS)
CONTAINER_SECURITY = Must(allowPrivilegeEscalation={False}, capabilities=Must(drop=[{"ALL"}]))
POD_SECURITY = {
    "runAsNonRoot": {True},
    "runAsUser": int,
    "fsGroup": int,
    "seccompProfile": Must(type={"RuntimeDefault"}),
}
CONTAINER = {
    "name": NAME,
    "image": re.compile(r"[\w./-]+:\d+\.\d+\.\d+"),  # a version, never `latest`
    "securityContext": CONTAINER_SECURITY,
    "resources": RESOURCES,
    "volumeMounts": [{"name": NAME, "mountPath": re.compile(r"/\S+"), "readOnly": {True}}],
}
POD = {
    "restartPolicy": {"Never"},
    "serviceAccountName": NAME,
    "automountServiceAccountToken": {False},
    "terminationGracePeriodSeconds": int,
    "securityContext": POD_SECURITY,
    "tolerations": [Must(key={"nvidia.com/gpu"}, operator={"Exists"}, effect={"NoSchedule"})],
    "containers": [CONTAINER],
    "volumes": [
        {
            "name": NAME,
            "emptyDir": {"medium": {"Memory"}, "sizeLimit": MEMORY},
            "persistentVolumeClaim": Must(claimName=NAME, readOnly={True}),
        }
    ],
}
BYTES = re.compile(r"\d+")
# KubeRay takes texts.
START = {"num-cpus": {"0"}, "num-gpus": {"0"}, "object-store-memory": BYTES}
HEAD = Must(
    serviceType={"ClusterIP"}, enableIngress={False}, rayStartParams=START, template=Must(spec=POD)
)
WORKERS = Must(
    groupName=NAME,
    replicas=int,
    minReplicas=int,
    maxReplicas=int,
    rayStartParams={"object-store-memory": BYTES},
    template=Must(spec=POD),
)
CLUSTER = Must(
    rayVersion=re.compile(r"2\.\d+\.\d+"),
    authOptions=Must(mode={"token"}, secretName=NAME),
    enableInTreeAutoscaling={True},
    autoscalerOptions=Must(
        version={"v2"},
        upscalingMode={"Default", "Conservative", "Aggressive"},
        idleTimeoutSeconds=int,
        resources=RESOURCES,
        securityContext=CONTAINER_SECURITY,
    ),
    headGroupSpec=HEAD,
    workerGroupSpecs=[WORKERS],
)
RAY_JOB = Must(
    apiVersion={"ray.io/v1"},
    kind={"RayJob"},
    metadata=Must(generateName=re.compile(r"[a-z][a-z0-9-]*-")),
    spec=Must(
        entrypoint=str,
        submissionMode={"K8sJobMode"},
        shutdownAfterJobFinishes={True},
        ttlSecondsAfterFinished=int,
        backoffLimit=int,
        submitterPodTemplate=Must(spec=POD),
        rayClusterSpec=CLUSTER,
    ),
)


def pods(manifest: Manifest) -> Iterator[tuple[str, Manifest]]:
    """Yield the pods by what they are."""
    spec = manifest["spec"]
    cluster = spec["rayClusterSpec"]
    yield "submitter", spec["submitterPodTemplate"]["spec"]
    yield "head", cluster["headGroupSpec"]["template"]["spec"]
    for group in cluster["workerGroupSpecs"]:
        yield group["groupName"], group["template"]["spec"]


def weak(manifest: Manifest) -> Iterator[str]:
    """Yield what lets somebody in who should not be, or gives a pod more than it needs."""
    for name, pod in pods(manifest):
        context = pod.get("securityContext", {})
        if not context.get("runAsNonRoot") or not context.get("runAsUser", 0):
            yield f"{name}: may run as root"
        if "seccompProfile" not in context:
            yield f"{name}: no seccomp profile"
        for container in pod["containers"]:
            if "securityContext" not in container:
                yield f"{name}: a container without a security context"
            if "resources" not in container:
                yield f"{name}: a container without limits"
        if name != "head" and pod.get("automountServiceAccountToken") is not False:
            yield f"{name}: holds a token of Kubernetes that it does not need"
    for place, value in leaves(manifest):
        if re.search(
            r"0\.0\.0\.0|AKIA|RAY_AUTH_TOKEN|-----BEGIN|NodePort|LoadBalancer", str(value)
        ):
            yield f"{place}: open, or a secret"


def gib(amount: str) -> int:
    return int(amount.removesuffix("Gi"))


def unfit_memory(manifest: Manifest) -> Iterator[str]:
    """Yield where /dev/shm does not hold Ray's objects, decoded images and 1 GiB to spare."""
    cluster = manifest["spec"]["rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        name = group.get("groupName", "head")
        pod = group["template"]["spec"]
        (container,) = pod["containers"]
        volumes = {volume["name"]: volume.get("emptyDir", {}) for volume in pod["volumes"]}
        mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        shared = volumes.get(mounts.get("/dev/shm", ""), {})
        store = int(group["rayStartParams"].get("object-store-memory", 0)) / (1 << 30)
        if shared.get("medium") != "Memory":
            yield f"{name}: no /dev/shm of its own"
            continue
        size = gib(shared["sizeLimit"])
        if store < 2:
            yield f"{name}: no object store to speak of"
        if size - store - 1 < (0 if name == "head" else Resources().decoded_memory_gb):
            yield f"{name}: /dev/shm has no space beside the object store"
        if size > 0.6 * gib(container["resources"]["limits"]["memory"]):
            yield f"{name}: /dev/shm leaves too little to processes"
        if (
            volumes.get(mounts.get("/scratch", ""), {}).get("medium", "")
            or "/scratch" not in mounts
        ):
            yield f"{name}: no scratch on a disk"


def unfit(manifest: Manifest) -> Iterator[str]:
    """Yield what makes the cluster cost more, or compute less, than it says."""
    spec = manifest["spec"]
    cluster = spec["rayClusterSpec"]
    if cluster["headGroupSpec"]["rayStartParams"].get("num-cpus") != "0":
        yield "the head computes"
    if not any("tolerations" not in g["template"]["spec"] for g in cluster["workerGroupSpecs"]):
        yield "no workers without a GPU"
    for group in cluster["workerGroupSpecs"]:
        if (group["minReplicas"], group["replicas"]) != (0, 0) or group["maxReplicas"] < 1:
            yield "workers are not from none to some"
    for name, pod in pods(manifest):
        mounts = {m["name"] for c in pod["containers"] for m in c.get("volumeMounts", [])}
        if mounts != {volume["name"] for volume in pod.get("volumes", [])}:
            yield f"{name}: what is mounted is not what there is"
        for container in pod["containers"]:
            requests, limits = container["resources"]["requests"], container["resources"]["limits"]
            if requests["memory"] != limits["memory"]:
                yield f"{name}: may be killed for memory that it was promised"
            if requests.get("nvidia.com/gpu") != limits.get("nvidia.com/gpu"):
                yield f"{name}: Kubernetes wants as many GPUs in limits as in requests"
    words = shlex.split(spec["entrypoint"])
    if words[:2] != ["lotus-ray", "grid"] or "--store" not in words:
        yield "the entrypoint runs no grid with a store"
    elif not re.match("(s3|gs)://", words[words.index("--store") + 1]):
        yield "the store is not one that every pod sees"
    images = {c["image"] for _, pod in pods(manifest) for c in pod["containers"]}
    if len(images) != 1:
        yield "the pods run different images"


@pytest.fixture
def manifest() -> Manifest:
    loaded: Manifest = yaml.safe_load(FILE.read_text())
    return loaded


def test_the_manifest_is_of_known_fields_safe_and_fit(manifest: Manifest) -> None:
    assert list(wrong(manifest, RAY_JOB)) == []
    assert list(weak(manifest)) == []
    assert list(unfit(manifest)) == []
    assert list(unfit_memory(manifest)) == []


def test_its_command_is_one_that_the_job_accepts(manifest: Manifest) -> None:
    """The overrides of the entrypoint, applied to the job that it names."""
    words = shlex.split(manifest["spec"]["entrypoint"])
    prefix = "/home/ray/lotus-ray/"
    assert words[2].startswith(prefix)
    overrides = [words[place + 1] for place, word in enumerate(words) if word == "--set"]
    need = load_job(ROOT / words[2].removeprefix(prefix), overrides).job.resources
    group, cpus = manifest["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    assert "nvidia.com/gpu" not in cpus["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert need.scratch == "/scratch"
    limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert need.workers * need.cpus_per_worker < int(limits["cpu"])  # one is left for reading
    assert need.gpus_per_worker == limits["nvidia.com/gpu"]
    assert need.trials_at_once == group["maxReplicas"]


def test_it_is_no_job() -> None:
    with pytest.raises(JobError) as raised:
        load_job(FILE)
    assert raised.value.what == "this is a Kubernetes manifest, not a job"
    assert raised.value.next_command == f"kubectl create -f {FILE}"


def changed(manifest: Manifest, *keys: Any) -> Manifest:
    """Return the manifest with a value set: its keys, then the value."""
    new = copy.deepcopy(manifest)
    parent = new["spec"]
    for key in keys[:-2]:
        parent = parent[key]
    if keys[-1] is None:
        del parent[keys[-2]]
    else:
        parent[keys[-2]] = keys[-1]
    return new


C = "rayClusterSpec"
HEAD_AT = (C, "headGroupSpec")
WORKER_AT = (C, "workerGroupSpecs", 0)
WORKER_POD = (*WORKER_AT, "template", "spec")
WORKER_CONTAINER = (*WORKER_POD, "containers", 0)
LIMITS = (*WORKER_CONTAINER, "resources", "limits")


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (("entrypoints", "x"), "entrypoints: unknown key"),
        (("entrypoint", None), "entrypoint: missing"),
        (("submissionMode", "HTTPMode"), "submissionMode"),
        (("shutdownAfterJobFinishes", False), "shutdownAfterJobFinishes"),
        (("backoffLimit", "3"), "backoffLimit: '3' is no int"),
        ((C, "authOptions", "mode", "disabled"), "authOptions.mode"),
        ((C, "authOptions", None), "authOptions: missing"),
        ((C, "authOptions", "secretName", None), "secretName: missing"),
        ((C, "enableInTreeAutoscaling", None), "enableInTreeAutoscaling: missing"),
        ((C, "autoscalerOptions", "version", "v1"), "version"),
        ((C, "rayVersion", 2.6), "rayVersion"),
        ((*HEAD_AT, "serviceType", "LoadBalancer"), "serviceType"),
        ((*HEAD_AT, "enableIngress", True), "enableIngress"),
        ((*HEAD_AT, "rayStartParams", "num-cpus", 0), "num-cpus"),
        ((*HEAD_AT, "rayStartParams", "dashboard-host", "0.0.0.0"), "dashboard-host: unknown"),
        ((*WORKER_AT, "minReplica", 0), "minReplica: unknown key"),
        ((*WORKER_AT, "maxReplicas", "8"), "maxReplicas"),
        ((*WORKER_POD, "hostNetwork", True), "hostNetwork: unknown key"),
        ((*WORKER_POD, "restartPolicy", "Always"), "restartPolicy"),
        ((*WORKER_POD, "tolerations", []), "tolerations"),
        ((*WORKER_CONTAINER, "image", "registry.example.com/lotus-ray:latest"), "image"),
        ((*WORKER_CONTAINER, "env", [{"name": "RAY_AUTH_TOKEN"}]), "env: unknown key"),
        ((*WORKER_CONTAINER, "securityContext", "privileged", True), "privileged: unknown key"),
        ((*WORKER_CONTAINER, "securityContext", "capabilities", {"add": ["ALL"]}), "capabilities"),
        ((*LIMITS, "memory", 28), "memory"),
        ((*LIMITS, "nvidia.com/gpu", "1"), "gpu"),
        ((*WORKER_POD, "volumes", 0, "hostPath", {"path": "/"}), "hostPath: unknown key"),
    ],
)
def test_a_field_off_the_list_is_found(
    manifest: Manifest, keys: tuple[Any, ...], words: str
) -> None:
    assert any(words in line for line in wrong(changed(manifest, *keys), RAY_JOB))


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ((*WORKER_POD, "securityContext", "runAsNonRoot", None), "may run as root"),
        ((*WORKER_POD, "securityContext", "runAsUser", 0), "may run as root"),
        ((*WORKER_POD, "securityContext", "seccompProfile", None), "no seccomp"),
        ((*WORKER_CONTAINER, "securityContext", None), "without a security context"),
        ((*WORKER_POD, "automountServiceAccountToken", None), "does not need"),
        ((*HEAD_AT, "serviceType", "NodePort"), "open, or a secret"),
        (("entrypoint", "RAY_AUTH_TOKEN=x lotus-ray grid"), "open, or a secret"),
    ],
)
def test_what_opens_the_cluster_is_found(
    manifest: Manifest, keys: tuple[Any, ...], words: str
) -> None:
    assert any(words in line for line in weak(changed(manifest, *keys)))


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ((*HEAD_AT, "rayStartParams", "num-cpus", "4"), "the head computes"),
        ((*WORKER_AT, "minReplicas", 1), "from none to some"),
        ((*WORKER_AT, "maxReplicas", 0), "from none to some"),
        ((*WORKER_POD, "volumes", []), "what is mounted"),
        ((*LIMITS, "memory", "32Gi"), "killed for memory"),
        ((*LIMITS, "nvidia.com/gpu", 2), "as many GPUs"),
        (("entrypoint", "lotus-ray grid x.yaml"), "no grid with a store"),
        (("entrypoint", "lotus-ray grid x.yaml --store runs/x"), "every pod sees"),
        ((*WORKER_CONTAINER, "image", "other:1.0.0"), "different images"),
    ],
)
def test_what_makes_the_cluster_another_one_is_found(
    manifest: Manifest, keys: tuple[Any, ...], words: str
) -> None:
    assert any(words in line for line in unfit(changed(manifest, *keys)))


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ((*WORKER_AT, "rayStartParams", {}), "no object store"),
        ((*WORKER_AT, "rayStartParams", "object-store-memory", str(9 << 30)), "no space beside"),
        ((*HEAD_AT, "rayStartParams", "object-store-memory", str(4 << 30)), "head: /dev/shm has"),
        ((*WORKER_POD, "volumes", 0, "emptyDir", "sizeLimit", "12Gi"), "no space beside"),
        ((*WORKER_POD, "volumes", 0, "emptyDir", "sizeLimit", "24Gi"), "too little"),
        ((*WORKER_POD, "volumes", 0, "emptyDir", "medium", None), "no /dev/shm"),
        ((*WORKER_POD, "volumes", 1, "emptyDir", "medium", "Memory"), "no scratch"),
    ],
)
def test_memory_that_does_not_fit_is_found(
    manifest: Manifest, keys: tuple[Any, ...], words: str
) -> None:
    assert any(words in line for line in unfit_memory(changed(manifest, *keys)))


def test_a_cluster_without_cpu_workers_is_found(manifest: Manifest) -> None:
    del manifest["spec"]["rayClusterSpec"]["workerGroupSpecs"][1]
    assert "no workers without a GPU" in list(unfit(manifest))


def test_a_container_without_limits_is_found(manifest: Manifest) -> None:
    bad = changed(manifest, *WORKER_CONTAINER, "resources", None)
    assert any("without limits" in line for line in weak(bad))


def test_rules_for_any_key_look_at_values_alone() -> None:
    assert list(wrong({"a": 1, "b": "2"}, {ANY: int})) == [".b: '2' is no int"]
