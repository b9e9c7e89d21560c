"""cluster.yaml and its variant for Google Cloud, without a cloud.

Ray's schema looks at neither `node_config` nor at what a setting means: the rules here do. Each of
them is broken once, to show that it can fail.
"""

from __future__ import annotations

import copy
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
import torch
import yaml

from lotus_ray import __version__
from lotus_ray.base.errors import JobError
from lotus_ray.job.load import load_job
from lotus_ray.job.schema.resources import Resources
from tests.rules import Must, leaves, wrong

ROOT = Path(__file__).parents[2]
FILES = {"aws": ROOT / "cluster.yaml", "gcp": ROOT / "jobs" / "clusters" / "gcp.yaml"}
Config = dict[str, Any]

AWS_NODE = {
    "ImageId": {"AMI"},  # of the reader's: that of Ray has a driver which torch cannot use
    "InstanceType": re.compile(r"[a-z0-9]+\.[0-9]*x?large"),
    "IamInstanceProfile": Must(Name=re.compile(r"lotus-ray-(head|worker)")),
    "InstanceMarketOptions": Must(MarketType={"spot"}),
    "MetadataOptions": Must(HttpTokens={"required"}, HttpPutResponseHopLimit={1}),
    "BlockDeviceMappings": [
        Must(
            DeviceName=re.compile(r"/dev/\w+"),
            Ebs=Must(
                VolumeSize=int,
                VolumeType={"gp3"},
                Throughput=int,
                Encrypted={True},
                DeleteOnTermination={True},
            ),
        )
    ],
}
GCP_NODE = {
    "machineType": re.compile(r"[a-z0-9]+-standard-\d+"),
    "scheduling": Must(
        provisioningModel={"SPOT"},
        instanceTerminationAction={"DELETE"},
        onHostMaintenance={"TERMINATE"},
        automaticRestart={False},
    ),
    "serviceAccounts": [
        Must(
            email=re.compile(r"[a-z-]+@PROJECT\.iam\.gserviceaccount\.com"),
            scopes=[{"https://www.googleapis.com/auth/cloud-platform"}],
        )
    ],
    "disks": [
        {
            "boot": {True},
            "type": {"SCRATCH"},
            "interface": {"NVME"},
            "autoDelete": {True},
            "initializeParams": {
                "diskType": re.compile(r"zones/us-central1-a/diskTypes/(pd-balanced|local-ssd)"),
                "diskSizeGb": int,
                "sourceImage": re.compile(r"projects/[\w-]+/global/images/family/\S+"),
            },
        }
    ],
}
NODE = {"aws": AWS_NODE, "gcp": GCP_NODE}
# What each cloud's machine has: GPUs, CPUs, GiB of memory.
MACHINES = {
    "m6i.2xlarge": (0, 8, 32),
    "m6id.4xlarge": (0, 16, 64),
    "g6.2xlarge": (1, 8, 32),
    "g6.12xlarge": (4, 48, 192),
    "n2-standard-8": (0, 8, 32),
    "g2-standard-8": (1, 8, 32),
    "g2-standard-48": (4, 48, 192),
}
GIB = 1 << 30
DECODED_GIB = Resources().decoded_memory_gb  # what a job keeps in memory, if it says nothing
SECRETS = re.compile(r"AKIA[0-9A-Z]{12}|-----BEGIN|ssh-(rsa|ed25519) |[0-9a-f]{32}")


def kinds(config: Config) -> Iterator[tuple[bool, Config]]:
    """Yield each type of node, and whether it is the head."""
    for name, kind in config["available_node_types"].items():
        yield name == config["head_node_type"], kind


def unknown_settings(cloud: str, config: Config) -> Iterator[str]:
    """Yield what is not on the allow-list of node settings."""
    for name, kind in config["available_node_types"].items():
        yield from wrong(kind["node_config"], NODE[cloud], name)


def weak(cloud: str, config: Config) -> Iterator[str]:
    """Yield what lets somebody in who should not be, or keeps a secret where others read it."""
    starts = [
        (kind, command)
        for kind in ("head", "worker")
        for command in config[f"{kind}_start_ray_commands"]
        if "ray start" in command
    ]
    for kind, command in starts:
        if not re.match(r"([A-Z_]+=\S+ )*RAY_AUTH_MODE=token ", command):
            yield f"{kind}: starts without token authentication"
        if kind == "head" and "--dashboard-host=127.0.0.1 " not in f"{command} ":
            yield "head: the dashboard is not on loopback"
        for option in (
            "--include-dashboard=false",
            "--ray-client-server-port",
            "--node-ip-address",
        ):
            if option in command:
                yield f"{kind}: {option}"
    if {kind for kind, _ in starts} != {"head", "worker"} or len(starts) != 2:
        yield "head and worker do not each start Ray once"
    if config["file_mounts"].get("/home/ray/.ray/auth_token") != "~/.ray/auth_token":
        yield "the token does not reach the nodes as a file of this user"
    if "ssh_public_key" in config["auth"] or "ssh_private_key" in config["auth"]:
        yield "auth: a key stands in the file"
    for place, value in leaves(config):
        if "0.0.0.0" in str(value) or "::/0" in str(value):
            yield f"{place}: open to all addresses"
        if SECRETS.search(str(value)):
            yield f"{place}: a secret"
        if re.search(r"AWS_(ACCESS|SECRET)|RAY_AUTH_TOKEN=", str(value)):
            yield f"{place}: credentials on a command line"
    if cloud == "aws":
        if config["provider"].get("security_group") != {"GroupName": "lotus-ray"}:
            yield "provider: not the security group that was made for it"
        for _, kind in kinds(config):
            if missing := {"MetadataOptions", "BlockDeviceMappings", "IamInstanceProfile"} - set(
                kind["node_config"]
            ):
                yield f"node without {', '.join(sorted(missing))}"
    for is_head, kind in kinds(config) if cloud == "gcp" else ():
        if not is_head and "serviceAccounts" not in kind["node_config"]:
            yield "worker without a service account"


def unfit_memory(cloud: str, config: Config) -> Iterator[str]:
    """Yield where /dev/shm does not hold Ray's objects, decoded images and 1 GiB to spare."""
    for is_head, kind in kinds(config):
        node = kind["node_config"]
        memory = MACHINES[node["InstanceType" if cloud == "aws" else "machineType"]][2]
        options = config["docker"]["run_options"] + (
            config["docker"].get("head_run_options", [])
            if is_head
            else kind.get("docker", {}).get("worker_run_options", [])
        )
        sizes = [option for option in options if option.startswith("--shm-size")]
        store = kind["resources"].get("object_store_memory", 0) / GIB
        if len(sizes) != 1 or not (match := re.fullmatch(r"--shm-size=(\d+)g", sizes[0])):
            yield "no size of /dev/shm"
            continue
        shared = int(match[1])
        if store < 2:
            yield "no object store to speak of"
        if shared - store - 1 < (0 if is_head else DECODED_GIB):
            yield f"a /dev/shm of {shared} GiB has no space beside an object store of {store:g}"
        if shared > memory / 2:
            yield f"a /dev/shm of {shared} GiB leaves too little of {memory} to processes"


def unfit_disks(cloud: str, config: Config) -> Iterator[str]:
    """Yield what reads and writes slowly."""
    for is_head, kind in kinds(config):
        node = kind["node_config"]
        if cloud == "aws":
            # Of gp3: 125 MB/s unless it says more, at most a quarter of its 3000 IOPS.
            if not all(250 <= d["Ebs"]["Throughput"] <= 750 for d in node["BlockDeviceMappings"]):
                yield "a disk reads slowly"
            continue
        boot, *others = node["disks"]
        types = [disk["initializeParams"].get("diskType", "").split("/")[-1] for disk in others]
        if not boot.get("boot") or not boot["initializeParams"].get("sourceImage"):
            yield "the first disk does not boot"
        if not boot["initializeParams"].get("diskType", "").endswith("pd-balanced"):
            yield "the default type of disk is not offered for G2"
        if types != ([] if is_head else ["local-ssd"]):
            yield "a worker without one local disk, or a head with one"
        if any(disk.get("type") != "SCRATCH" or not disk.get("autoDelete") for disk in others):
            yield "a local disk is not for scratch"


def unfit(cloud: str, config: Config) -> Iterator[str]:
    """Yield what makes the cluster cost more, or compute less, than it says."""
    spot = "InstanceMarketOptions" if cloud == "aws" else "scheduling"
    sizes = set()
    for is_head, kind in kinds(config):
        node = kind["node_config"]
        has = {name: kind["resources"].get(name) for name in ("CPU", "GPU")}
        gpus, cpus, _ = MACHINES[node["InstanceType" if cloud == "aws" else "machineType"]]
        if is_head and has != {"CPU": 0, "GPU": 0}:
            yield "the head computes"
        if is_head == (spot in node):
            yield "the head is spot" if is_head else "a worker is not spot"
        if not is_head:
            sizes.add(gpus)
            if has != {"CPU": cpus, "GPU": gpus}:
                yield f"{has} is not what the machine has"
            if kind["min_workers"] != 0 or not kind["max_workers"]:
                yield "workers are not from none to some"
    if len(sizes - {0}) < 2:
        yield "all workers are of one size"
    if 0 not in sizes:
        yield "no worker without a GPU"
    if "-v /mnt/scratch:/scratch" not in config["docker"]["run_options"]:
        yield "scratch is not mounted"
    agents = [c for c in config["worker_start_ray_commands"] if "lotus-ray spot-agent" in c]
    if len(agents) != 1 or f"--provider {cloud} " not in agents[0]:
        yield "no agent listens to the notice of this cloud"
    if config["max_workers"] != sum(k.get("max_workers", 0) for _, k in kinds(config)):
        yield "max_workers is not the sum of the types"
    if not 1 <= config["idle_timeout_minutes"] <= 15:
        yield "idle workers stay for long"


@pytest.fixture(params=FILES)
def cloud(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def config(cloud: str) -> Config:
    loaded: Config = yaml.safe_load(FILES[cloud].read_text())
    return loaded


def test_ray_accepts_it(config: Config) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(copy.deepcopy(config)))
    with pytest.raises(Exception, match="head_node_typ"):
        validate_config(prepare_config({**config, "head_node_typ": "head"}))


def test_every_node_setting_is_known_safe_and_fit(cloud: str, config: Config) -> None:
    assert list(unknown_settings(cloud, config)) == []
    assert list(weak(cloud, config)) == []
    assert list(unfit(cloud, config)) == []
    assert list(unfit_memory(cloud, config)) == []
    assert list(unfit_disks(cloud, config)) == []


def test_the_cloud_and_its_region_are_the_ones_it_says(cloud: str, config: Config) -> None:
    assert config["provider"]["type"] == cloud
    region = config["provider"]["region"]
    said = re.findall(r"AWS_REGION=(\S+)", FILES[cloud].read_text())
    assert said == ([region] * 2 if cloud == "aws" else [])


def test_the_image_holds_the_package(cloud: str, config: Config) -> None:
    """It is made from Ray's own, by the commands in the file, and nothing is installed later."""
    assert config["docker"]["image"] == f"REGISTRY/lotus-ray:{__version__}"
    assert config["setup_commands"] == []
    said = FILES["aws"].read_text()
    assert f"docker commit bake {config['docker']['image']}" in said
    assert "docker create --name bake rayproject/ray:2.60.0-py311-gpu" in said
    assert f"rayproject/ray:{ray.__version__}-py311-gpu" in said


def test_rays_object_store_has_the_size_of_the_node_type(config: Config) -> None:
    """As Ray reads it: the launcher exports the resources of a type to its `ray start`."""
    from ray._private.resource_and_label_spec import ResourceAndLabelSpec

    for _, kind in kinds(config):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("RAY_OVERRIDE_RESOURCES", json.dumps(kind["resources"]))
            patch.setattr("ray._private.utils.estimate_available_memory", lambda: 180 * GIB)
            spec = ResourceAndLabelSpec().resolve(is_head=False, node_ip_address="127.0.0.1")
        assert spec.object_store_memory == kind["resources"]["object_store_memory"]


FAKES = {
    "sudo": 'exec "$@"',
    "mkdir": ":",
    "mountpoint": 'test "$2" = "$MOUNTED"',
    "lsblk": 'printf "$DISKS"',
}
TWO_DISKS = (
    "/dev/nvme0n1 Amazon Elastic Block Store\\n/dev/nvme1n1 Amazon EC2 NVMe Instance Storage\\n"
)


def host_commands(folder: Path, command: str, **environment: str) -> list[str]:
    """Run a command of a machine with stand-ins for what changes it; return what they were told."""
    fakes = {**FAKES, **{name: f'echo {name} "$@"' for name in ("chmod", "mkfs.ext4", "mount")}}
    for name, body in fakes.items():
        (folder / name).write_text(f"#!/bin/sh\n{body}\n")
        (folder / name).chmod(0o755)
    ended = subprocess.run(
        ["bash", "-c", command],
        env={"PATH": f"{folder}:{os.environ['PATH']}", "MOUNTED": "", "DISKS": "", **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stderr == ""
    return ended.stdout.splitlines()


def test_scratch_lies_on_the_machines_own_disk(tmp_path: Path) -> None:
    """The disk that the image mounted, else the first one, else a plain folder; never twice."""
    (command,) = yaml.safe_load(FILES["aws"].read_text())["initialization_commands"]
    public = "chmod 1777 /mnt/scratch"
    assert host_commands(tmp_path, command) == [public]
    assert host_commands(tmp_path, command, MOUNTED="/mnt/scratch", DISKS=TWO_DISKS) == [public]
    assert host_commands(tmp_path, command, MOUNTED="/opt/dlami/nvme", DISKS=TWO_DISKS) == [
        "mount --bind /opt/dlami/nvme /mnt/scratch",
        public,
    ]
    assert host_commands(tmp_path, command, DISKS=TWO_DISKS) == [
        "mkfs.ext4 -qF /dev/nvme1n1",
        "mount /dev/nvme1n1 /mnt/scratch",
        public,
    ]


def test_scratch_lies_on_googles_local_disk(tmp_path: Path) -> None:
    (command,) = yaml.safe_load(FILES["gcp"].read_text())["initialization_commands"]
    public = "chmod 1777 /mnt/scratch"
    assert host_commands(tmp_path, command) == [public]
    disk = tmp_path / "disk"
    disk.touch()
    command = command.replace("/dev/disk/by-id/google-local-nvme-ssd-0", str(disk))
    assert host_commands(tmp_path, command) == [
        f"mkfs.ext4 -qF {disk}",
        f"mount {disk} /mnt/scratch",
        public,
    ]


def test_the_agent_runs_on_beside_the_command_that_started_it(
    config: Config, tmp_path: Path
) -> None:
    """`lotus-ray` stands in here: a second one does not start while the first one runs."""
    agent = config["worker_start_ray_commands"][-1]
    assert "</dev/null >/tmp/lotus-ray-spot-agent.log 2>&1" in agent
    said = tmp_path / "said"
    (tmp_path / "lotus-ray").write_text(f'#!/bin/sh\necho "$@" >>{said}\nexec sleep 3\n')
    (tmp_path / "lotus-ray").chmod(0o755)
    command = agent.replace("/tmp/lotus-ray", f"{tmp_path}/lock")
    for _ in range(2):
        environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
        subprocess.run(["bash", "-c", command], env=environment, check=True, timeout=2)
    end = time.monotonic() + 10
    while not said.exists() and time.monotonic() < end:
        time.sleep(0.02)
    assert said.read_text() == f"spot-agent --provider {config['provider']['type']}\n"


def test_it_opens_with_what_it_is_and_is_no_job(cloud: str) -> None:
    assert FILES[cloud].read_text().startswith("# ")
    with pytest.raises(JobError) as raised:
        load_job(FILES[cloud])
    assert raised.value.what == "this is a cluster for Ray's launcher, not a job"
    assert raised.value.next_command == f"ray up {FILES[cloud]}"


def _put(*keys: Any) -> Callable[[Config], None]:
    """Return what sets a value: its keys, then the value."""

    def put(config: Config) -> None:
        parent = config
        for key in keys[:-2]:
            parent = parent[key]
        parent[keys[-2]] = keys[-1]

    return put


def _worker(*keys: Any) -> Callable[[Config], None]:
    return _put("available_node_types", "one_gpu", *keys)


def _node(*keys: Any) -> Callable[[Config], None]:
    return _worker("node_config", *keys)


EBS = ("BlockDeviceMappings", 0, "Ebs")
PARAMS = ("disks", 0, "initializeParams")
BAD_SETTINGS = [
    ("aws", _node("InstanceTypo", "g6.2xlarge"), "InstanceTypo: unknown key"),
    ("aws", _node("KeyName", "mine"), "KeyName: unknown key"),
    ("aws", _node("UserData", "curl x | sh"), "UserData: unknown key"),
    ("aws", _node("InstanceType", 6), "InstanceType"),
    ("aws", _node("InstanceMarketOptions", "MarketType", "on-demand"), "MarketType"),
    ("aws", _node("InstanceMarketOptions", "spot"), "no mapping"),
    ("aws", _node("IamInstanceProfile", "Name", "admin"), "IamInstanceProfile.Name"),
    ("aws", _node("IamInstanceProfile", {"Arn": "x"}), "IamInstanceProfile.Name: missing"),
    ("aws", _node("MetadataOptions", "HttpTokens", "optional"), "HttpTokens"),
    ("aws", _node("MetadataOptions", {"HttpTokens": "required"}), "HopLimit: missing"),
    ("aws", _node(*EBS, "Encrypted", False), "Encrypted"),
    ("aws", _node(*EBS, "Encrypted", 1), "Encrypted"),
    ("aws", _node(*EBS, "VolumeSize", "300"), "VolumeSize: '300' is no int"),
    ("aws", _node("BlockDeviceMappings", []), "not a list of anything"),
    ("aws", _node(*EBS, "Throughput", "500"), "Throughput"),
    ("gcp", _node(*PARAMS, "diskType", "pd-balanced"), "diskType"),
    ("gcp", _node("disks", 1, "interface", "SCSI"), "interface"),
    ("gcp", _node("machineTypo", "g2-standard-8"), "machineTypo: unknown key"),
    ("gcp", _node("machineType", None), "machineType"),
    ("gcp", _node("scheduling", "provisioningModel", "STANDARD"), "provisioningModel"),
    ("gcp", _node("scheduling", [{"preemptible": True}]), "no mapping"),
    ("gcp", _node("scheduling", "automaticRestart", True), "automaticRestart"),
    ("gcp", _node("serviceAccounts", 0, "email", "me@example.com"), "email"),
    ("gcp", _node("serviceAccounts", 0, "scopes", []), "scopes"),
    ("gcp", _node(*PARAMS, "diskSizeGb", "300"), "diskSizeGb"),
    ("gcp", _node("disks", 0, "boot", "yes"), "boot"),
    ("gcp", _node("metadata", {"ssh-keys": "x"}), "metadata: unknown key"),
]
HEAD_START = ("head_start_ray_commands", 1)
WEAK = [
    (_put(*HEAD_START, "ray start --head --dashboard-host=127.0.0.1"), "without token"),
    (_put("worker_start_ray_commands", 1, "ray start --address=x"), "worker: starts without token"),
    (
        _put(*HEAD_START, "RAY_AUTH_MODE=token ray start --dashboard-host=10.0.0.1"),
        "not on loopback",
    ),
    (_put(*HEAD_START, "RAY_AUTH_MODE=token ray start --dashboard-host=127.0.0.11"), "not on loop"),
    (_put(*HEAD_START, "RAY_AUTH_MODE=token ray start --dashboard-host=0.0.0.0"), "all addresses"),
    (
        _put(*HEAD_START, "RAY_AUTH_MODE=token ray start --ray-client-server-port=1"),
        "client-server",
    ),
    (_put(*HEAD_START, "ray stop"), "each start Ray once"),
    (_put("file_mounts", {}), "the token does not reach"),
    (_put("auth", "ssh_public_key", "~/.ssh/id.pub"), "a key stands in the file"),
    (
        _put("provider", "security_group", {"IpPermissions": [{"CidrIp": "0.0.0.0/0"}]}),
        "open to all",
    ),
    (_put("setup_commands", ["echo AKIAABCDEFGHIJKL"]), "a secret"),
    (_put("setup_commands", ["export AWS_SECRET_ACCESS_KEY=x"]), "credentials on a command line"),
    (_put("docker", "run_options", ["-e RAY_AUTH_TOKEN=x"]), "credentials on a command line"),
]
UNFIT = [
    (_put("available_node_types", "head", "resources", {"CPU": 8}), "the head computes"),
    (_worker("resources", {"CPU": 8, "GPU": 2}), "is not what the machine has"),
    (_worker("min_workers", 1), "from none to some"),
    (_put("max_workers", 3), "not the sum"),
    (_put("docker", "run_options", []), "scratch is not mounted"),
    (_put("worker_start_ray_commands", 2, "true"), "no agent listens"),
    (lambda c: c["available_node_types"].pop("cpus"), "no worker without a GPU"),
    (_put("idle_timeout_minutes", 120), "idle workers"),
    (lambda c: c["available_node_types"].pop("four_gpus"), "all workers are of one size"),
]


@pytest.mark.parametrize(("cloud", "change", "words"), BAD_SETTINGS)
def test_a_node_setting_off_the_list_is_found(
    cloud: str, change: Callable[[Config], None], words: str
) -> None:
    config = yaml.safe_load(FILES[cloud].read_text())
    change(config)
    assert any(words in line for line in unknown_settings(cloud, config))


@pytest.mark.parametrize(("change", "words"), WEAK)
def test_what_opens_the_cluster_is_found(
    cloud: str, config: Config, change: Callable[[Config], None], words: str
) -> None:
    change(config)
    assert any(words in line for line in weak(cloud, config))


@pytest.mark.parametrize(("change", "words"), UNFIT)
def test_what_makes_the_cluster_another_one_is_found(
    cloud: str, config: Config, change: Callable[[Config], None], words: str
) -> None:
    change(config)
    assert any(words in line for line in unfit(cloud, config))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_worker("docker", {}), "no size of /dev/shm"),
        (_worker("docker", "worker_run_options", ["--shm-size=12g"]), "has no space beside"),
        (_worker("docker", "worker_run_options", ["--shm-size=24g"]), "leaves too little"),
        (_worker("resources", "object_store_memory", 8 * GIB), "beside an object store of 8"),
        (_worker("resources", {"CPU": 8, "GPU": 1}), "no object store"),
        (_put("docker", "head_run_options", ["--shm-size=4g"]), "has no space beside"),
    ],
)
def test_memory_that_does_not_fit_is_found(
    cloud: str, config: Config, change: Callable[[Config], None], words: str
) -> None:
    change(config)
    assert any(words in line for line in unfit_memory(cloud, config))


@pytest.mark.parametrize(
    ("cloud", "change", "words"),
    [
        ("aws", _node(*EBS, "Throughput", 125), "reads slowly"),
        ("gcp", _node(*PARAMS, "diskType", ""), "not offered for G2"),
        ("gcp", _node("disks", 0, "boot", False), "does not boot"),
        ("gcp", _node("disks", 1, "initializeParams", {}), "without one local disk"),
        ("gcp", _node("disks", 1, "autoDelete", False), "not for scratch"),
    ],
)
def test_slow_disks_are_found(cloud: str, change: Callable[[Config], None], words: str) -> None:
    config = yaml.safe_load(FILES[cloud].read_text())
    change(config)
    assert any(words in line for line in unfit_disks(cloud, config))


@pytest.mark.parametrize(
    ("cloud", "setting", "words"),
    [
        ("aws", "MetadataOptions", "node without MetadataOptions"),
        ("aws", "BlockDeviceMappings", "node without BlockDeviceMappings"),
        ("aws", "IamInstanceProfile", "node without IamInstanceProfile"),
        ("gcp", "serviceAccounts", "worker without a service account"),
    ],
)
def test_a_node_without_what_protects_it_is_found(cloud: str, setting: str, words: str) -> None:
    config = yaml.safe_load(FILES[cloud].read_text())
    del config["available_node_types"]["four_gpus"]["node_config"][setting]
    assert words in list(weak(cloud, config))


@pytest.mark.parametrize(
    ("cloud", "spot"), [("aws", "InstanceMarketOptions"), ("gcp", "scheduling")]
)
def test_a_worker_that_is_not_spot_and_a_head_that_is_are_found(cloud: str, spot: str) -> None:
    config = yaml.safe_load(FILES[cloud].read_text())
    types = config["available_node_types"]
    types["head"]["node_config"][spot] = types["one_gpu"]["node_config"].pop(spot)
    assert {"the head is spot", "a worker is not spot"} <= set(unfit(cloud, config))


@pytest.mark.parametrize(("has_gpu", "status"), [(True, 1), (False, 0)])
def test_a_worker_whose_gpu_torch_cannot_use_does_not_join(
    config: Config, tmp_path: Path, has_gpu: bool, status: int
) -> None:
    """The check of the file, run here, where torch finds no GPU: only a machine with one fails."""
    (check,) = config["worker_setup_commands"]
    (tmp_path / "grep").write_text(f"#!/bin/sh\nexit {0 if has_gpu else 1}\n")
    (tmp_path / "grep").chmod(0o755)
    ended = subprocess.run(
        ["bash", "-c", check.replace("python -c", f"{sys.executable} -c")],
        env=os.environ | {"CUDA_VISIBLE_DEVICES": "", "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == status
    said = f"torch {torch.__version__} cannot use the GPU driver" if has_gpu else ""
    assert ended.stderr.startswith(said)


def test_every_machine_of_aws_names_its_image() -> None:
    config = yaml.safe_load(FILES["aws"].read_text())
    assert {kind["node_config"]["ImageId"] for _, kind in kinds(config)} == {"AMI"}
