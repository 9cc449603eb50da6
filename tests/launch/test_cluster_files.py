"""What can be checked of the cluster files without a cluster: syntax, structure, and the SLURM script's decisions."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
CLUSTER = ROOT / "launch" / "cluster"


@pytest.fixture(scope="module")
def manifests() -> dict[str, dict]:
    """The Kubernetes objects by kind."""
    return {item["kind"]: item for item in yaml.safe_load_all((CLUSTER / "k8s.yaml").read_text())}


def test_the_pods_find_each_other(manifests: dict[str, dict]) -> None:
    job, service = manifests["Job"], manifests["Service"]
    pod = job["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    assert pod["spec"]["subdomain"] == service["metadata"]["name"]
    assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    assert service["spec"]["publishNotReadyAddresses"] is True
    assert job["spec"]["completionMode"] == "Indexed"
    master = f"--master-addr={job['metadata']['name']}-0.{service['metadata']['name']}"
    assert master in container["args"]
    assert f"--master-port={service['spec']['ports'][0]['port']}" in container["args"]
    nodes = {item["name"]: item["value"] for item in container["env"]}["NODES"]
    assert int(nodes) == job["spec"]["completions"] == job["spec"]["parallelism"]
    gpus = container["resources"]["limits"]["nvidia.com/gpu"]
    assert f"--nproc-per-node={gpus}" in container["args"]


def test_the_job_knows_what_exit_statuses_mean(manifests: dict[str, dict]) -> None:
    spec = manifests["Job"]["spec"]
    pod = spec["template"]["spec"]
    actions = {
        (rule["onExitCodes"]["containerName"], *rule["onExitCodes"]["values"]): rule["action"]
        for rule in spec["podFailurePolicy"]["rules"]
        if "onExitCodes" in rule
    }
    assert actions == {("train", 75): "Ignore", ("check", 2): "FailJob"}
    assert {"type": "DisruptionTarget", "status": "True"} in spec["podFailurePolicy"]["rules"][2][
        "onPodConditions"
    ]
    assert pod["restartPolicy"] == "Never"  # a podFailurePolicy demands it
    assert pod["terminationGracePeriodSeconds"] > 45  # longer than the supervisor's grace


def test_the_settings_are_checked_as_they_are_trained_with(manifests: dict[str, dict]) -> None:
    job = manifests["Job"]["spec"]
    (check,), (train,) = (job["template"]["spec"][name] for name in ("initContainers", "containers"))
    after = [words[words.index("--config") :] for words in (check["command"], train["args"])]
    assert after[0] == after[1]
    assert check["image"] == train["image"]
    assert check["envFrom"] == train["envFrom"]
    ranks = job["completions"] * train["resources"]["limits"]["nvidia.com/gpu"]
    assert f"--ranks={ranks}" in check["command"]


def test_the_pod_has_shared_memory_secrets_and_one_run_folder(manifests: dict[str, dict]) -> None:
    pod = manifests["Job"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    memory = [volume for volume in pod["volumes"] if volume.get("emptyDir", {}).get("medium") == "Memory"]
    assert [mounts[volume["name"]] for volume in memory] == ["/dev/shm"]
    assert container["envFrom"] == [{"secretRef": {"name": "pal-s3"}}]
    assert not any("KEY" in item["name"] for item in container["env"])
    watched = container["args"][container["args"].index("--run-dir") + 1]
    assert f"run.dir={watched}" in container["args"]
    script = container["args"][container["args"].index("--config") - 1]
    assert (ROOT / script).exists()
    assert (ROOT / container["args"][container["args"].index("--config") + 1]).exists()


def test_the_image_copies_what_exists_and_its_entrypoint_takes_signals() -> None:
    text = (CLUSTER / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert lines[0].startswith("FROM ")
    entry = [json.loads(line.removeprefix("ENTRYPOINT ")) for line in lines if line.startswith("ENTRYPOINT")]
    command = [json.loads(line.removeprefix("CMD ")) for line in lines if line.startswith("CMD")]
    assert entry == [["python", "launch/cluster/supervise.py"]]
    assert (ROOT / entry[0][1]).exists()
    assert command[0][0] == "--"
    assert (ROOT / command[0][2]).exists()
    copied = [word for line in lines if line.startswith("COPY ") for word in line.split()[1:-1]]
    # The readme is named by pyproject.toml, without which nothing installs.
    assert [name for name in copied if name != "README.md" and not (ROOT / name).exists()] == []
    assert re.search(r"apt-get install .* ffmpeg .* gcc .* libibverbs1 ", text)
    variables = " ".join(line for line in lines if line.startswith("ENV "))
    assert "NVIDIA_DRIVER_CAPABILITIES=compute,utility,video" in variables
    assert "DS_ACCELERATOR" not in variables


def test_deepspeed_reads_the_example_hostfile() -> None:
    from deepspeed.launcher.runner import fetch_hostfile

    assert fetch_hostfile(str(CLUSTER / "hostfile.example")) == {"gpu-node-0": 8, "gpu-node-1": 8}


def test_the_environment_example_holds_assignments_alone() -> None:
    # The launcher splits every line at its first "=": a comment or an empty line would break the launch.
    lines = (CLUSTER / "deepspeed_env.example").read_text().splitlines()
    assert lines
    for line in lines:
        assert re.fullmatch(r"[A-Z_][A-Z0-9_]*=\S+", line), line
        assert (
            "SECRET" not in line
        )  # pdsh puts these on command lines, where every user of a host can read them


class Slurm:
    """The batch script with stand-ins for srun and scontrol in front of it on the PATH."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        tools = folder / "tools"
        tools.mkdir()
        self._tool(
            tools / "srun", 'while [[ $1 == --* ]]; do echo "$1" >> "$LOG/srun"; shift; done\nexec "$@"'
        )
        self._tool(
            tools / "scontrol",
            'echo "$@" >> "$LOG/scontrol"\nif [ "$1" = show ]; then printf "node-a\\nnode-b\\n"; fi',
        )
        # exec keeps the process, as it does for the real interpreter: SIGTERM must reach what runs the rank.
        self._tool(tools / "python", 'env > "$LOG/env"\necho "$@" > "$LOG/words"\n' + 'eval "$BEHAVIOUR"')
        self.environment = {
            "PATH": f"{tools}:{os.environ['PATH']}",
            "LOG": str(folder),
            "PYTHON": str(tools / "python"),
            "SLURM_SUBMIT_DIR": str(ROOT),
            "SLURM_JOB_ID": "4711",
            "SLURM_JOB_NODELIST": "node-[a-b]",
            "SLURM_CPUS_PER_TASK": "16",
            "SLURM_PROCID": "11",
            "SLURM_LOCALID": "3",
            "SLURM_NTASKS": "16",
            "SLURM_NNODES": "2",
        }

    def _tool(self, path: Path, text: str) -> None:
        path.write_text(f"#!/usr/bin/env bash\n{text}\n")
        path.chmod(0o755)

    def start(self, behaviour: str, **extra: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["bash", str(CLUSTER / "slurm.sbatch"), "config.yaml", "run.dir=s3://b/run one"],
            env={**self.environment, "BEHAVIOUR": behaviour, **extra},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, behaviour: str, **extra: str) -> int:
        process = self.start(behaviour, **extra)
        self.output, _ = process.communicate(timeout=30)
        return process.returncode

    def read(self, name: str) -> str:
        path = self.folder / name
        return path.read_text() if path.exists() else ""


@pytest.fixture
def slurm(tmp_path: Path) -> Slurm:
    return Slurm(tmp_path)


def test_slurm_ranks_know_their_places(slurm: Slurm) -> None:
    assert slurm.run("exit 0") == 0, slurm.output
    environment = dict(line.split("=", 1) for line in slurm.read("env").splitlines() if "=" in line)
    places = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    assert [environment[name] for name in places] == ["11", "3", "16", "8", "node-a", "24711"]
    wanted = "launch/pretrain.py --config config.yaml data.workers=15 run.dir=s3://b/run one"
    assert slurm.read("words").strip() == wanted
    assert "--kill-on-bad-exit=0" in slurm.read("srun")
    assert "requeue" not in slurm.read("scontrol")


@pytest.mark.parametrize(
    ("status", "restarts", "expected", "queued"),
    [(75, "0", 0, True), (75, "100", 75, False), (1, "0", 1, False), (2, "0", 2, False)],
)
def test_slurm_queues_again_after_75_alone(
    slurm: Slurm, status: int, restarts: str, expected: int, queued: bool
) -> None:
    assert slurm.run(f"exit {status}", SLURM_RESTART_COUNT=restarts) == expected, slurm.output
    assert ("requeue 4711" in slurm.read("scontrol")) == queued


def test_a_signal_to_the_batch_script_reaches_the_rank_and_is_waited_for(slurm: Slurm) -> None:
    save = 'trap "sleep 0.5; echo saved > $LOG/saved; exit 75" TERM'
    process = slurm.start(f"{save}; echo up > $LOG/up; while :; do sleep 0.05; done")
    end = time.monotonic() + 20
    while not slurm.read("up"):
        assert time.monotonic() < end
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 0, output
    assert slurm.read("saved") == "saved\n"
    assert "requeue 4711" in slurm.read("scontrol")


def test_the_batch_script_is_bash_and_asks_for_time_to_save() -> None:
    script = CLUSTER / "slurm.sbatch"
    subprocess.run(["bash", "-n", str(script)], check=True)
    options = [
        shlex.split(line.removeprefix("#SBATCH "))[0]
        for line in script.read_text().splitlines()
        if line.startswith("#SBATCH ")
    ]
    assert "--requeue" in options
    notice = next(option for option in options if option.startswith("--signal="))
    assert int(notice.rpartition("@")[2]) >= 60
    done = subprocess.run(["bash", str(script)], capture_output=True, text=True, check=False)
    assert (done.returncode, "usage" in done.stderr) == (2, True)
