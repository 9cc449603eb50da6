"""The launch templates against the schemas of what reads them, and their commands against our own command line."""

from __future__ import annotations

import copy
import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from pal_ds.cli.pretrain import main
from pal_ds.formats.shardset import MANIFEST_NAME, Manifest, ShardEntry, SplitEntry

ROOT = Path(__file__).resolve().parents[2]
CLUSTER = ROOT / "launch" / "cluster"
SCHEMAS = Path(__file__).parent / "schemas"
Check = Callable[[Any], None]


def strict(node: Any) -> Any:
    """Make a schema refuse fields that it doesn't name: a server would drop a misspelt one without a word."""
    if isinstance(node, dict):
        for child in node.values():
            strict(child)
        if "properties" in node:
            node.setdefault("additionalProperties", False)
    elif isinstance(node, list):
        for child in node:
            strict(child)
    return node


def of_model(name: str) -> dict[str, Any]:
    """The schema of an object of Kubernetes, JobSet or Kubeflow Trainer, from the package that Trainer publishes."""
    models = pytest.importorskip("kubeflow_trainer_api.models", reason="pip install kubeflow-trainer-api")
    schema: dict[str, Any] = strict(getattr(models, name).model_json_schema(by_alias=True))
    # The model leaves this type empty: a number, or text like "256Gi" (apimachinery, resource.Quantity).
    quantity = {
        "type": "string",
        "pattern": r"^[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]+)?$",
    }
    schema["$defs"]["IoK8sApimachineryPkgApiResourceQuantity"] = {"anyOf": [{"type": "number"}, quantity]}
    return schema


def checker(kind: str) -> Check:
    """What checks an object of this kind."""
    if kind == "PyTorchJob":
        schema = json.loads((SCHEMAS / "pytorchjob_v1.json").read_text())
        template = of_model("IoK8sApiCoreV1PodTemplateSpec")
        definitions = template.pop("$defs")
        schema["$defs"] |= {**definitions, "IoK8sApiCoreV1PodTemplateSpec": template}
    elif kind == "task":
        schema = json.loads((SCHEMAS / "skypilot_task.json").read_text())
    else:
        schema = of_model(
            {
                "JobSet": "JobsetV1alpha2JobSet",
                "TrainJob": "TrainerV1alpha1TrainJob",
                "TrainingRuntime": "TrainerV1alpha1TrainingRuntime",
                "Job": "IoK8sApiBatchV1Job",
            }[kind]
        )
    return jsonschema.Draft202012Validator(schema).validate


def objects(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((CLUSTER / name).read_text()))


TEMPLATES = [
    (name, index, item.get("kind", "task"))
    for name in ("k8s.yaml", "jobset.yaml", "trainjob.yaml", "pytorchjob.yaml", "skypilot.yaml")
    for index, item in enumerate(objects(name))
    if item.get("kind") != "Service"
]


@pytest.mark.parametrize(("name", "index", "kind"), TEMPLATES, ids=[f"{n}-{k}" for n, _, k in TEMPLATES])
def test_a_template_is_what_its_reader_takes(name: str, index: int, kind: str) -> None:
    item = objects(name)[index]
    check = checker(kind)
    check(item)
    if "spec" not in item:
        wrong = [{**item, "num_nodes": "two"}, {**item, "run_command": "x"}]
    else:
        misspelt = copy.deepcopy(item)
        misspelt["spec"]["backofLimit"] = 3
        wrong = [misspelt]
    for broken in wrong:
        with pytest.raises(jsonschema.ValidationError):
            check(broken)


def test_a_misspelt_field_of_a_container_is_found() -> None:
    (job,) = objects("pytorchjob.yaml")
    container = job["spec"]["pytorchReplicaSpecs"]["Worker"]["template"]["spec"]["containers"][0]
    container["volumeMount"] = container.pop("volumeMounts")
    with pytest.raises(jsonschema.ValidationError, match="volumeMount"):
        checker("PyTorchJob")(job)


def test_a_quantity_that_is_none_is_found() -> None:
    (job,) = objects("jobset.yaml")
    pod = job["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]
    pod["containers"][0]["resources"]["limits"]["memory"] = "256 gigs"
    with pytest.raises(jsonschema.ValidationError):
        checker("JobSet")(job)


def pods(name: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Of each pod of a template: the container that checks, and the one that trains."""
    found: list[tuple[dict[str, Any], dict[str, Any]]] = []

    def look(node: Any) -> None:
        if isinstance(node, dict):
            if "initContainers" in node:
                found.append((node["initContainers"][0], node["containers"][0]))
            for child in node.values():
                look(child)
        elif isinstance(node, list):
            for child in node:
                look(child)

    items = objects(name)
    look(items)
    trainer = next((item["spec"]["trainer"] for item in items if item.get("kind") == "TrainJob"), None)
    return [(check, {**train, **trainer} if trainer else train) for check, train in found]


def settings(words: list[str]) -> list[str]:
    return words[words.index("--config") :]


KUBERNETES = ["k8s.yaml", "jobset.yaml", "trainjob.yaml", "pytorchjob.yaml"]


@pytest.mark.parametrize("name", KUBERNETES)
def test_what_is_checked_is_what_is_trained(name: str) -> None:
    for check, train in pods(name):
        assert settings(check["command"]) == settings(train["args"])
        assert check["image"] == train["image"]
        assert f"run.dir={train['args'][train['args'].index('--run-dir') + 1]}" in train["args"]
        assert (ROOT / train["args"][train["args"].index("--config") - 1]).exists()
        limits = train.get("resources", train.get("resourcesPerNode"))["limits"]
        nodes = {
            "k8s.yaml": 2,
            "jobset.yaml": 2,
            "trainjob.yaml": train.get("numNodes"),
            "pytorchjob.yaml": 2,
        }[name]
        assert f"--ranks={nodes * limits['nvidia.com/gpu']}" in check["command"]
    assert len(pods(name)) == (2 if name == "pytorchjob.yaml" else 1)


@pytest.mark.parametrize("name", KUBERNETES[:3])
def test_a_saved_run_is_no_failure_and_wrong_settings_end_the_job(name: str) -> None:
    text = (CLUSTER / name).read_text()
    policies = re.findall(
        r"action: (\w+)[^\n]*\n\s+onExitCodes:\n\s+containerName: (\w+)\n.*?\n\s+values: \[(\d+)\]", text
    )
    (_, train) = pods(name)[0]
    assert policies == [("Ignore", train["name"], "75"), ("FailJob", "check", "2")]


def test_the_pods_of_a_jobset_find_the_first() -> None:
    (item,) = objects("jobset.yaml")
    (job,) = item["spec"]["replicatedJobs"]
    name, spec = item["metadata"]["name"], job["template"]["spec"]
    (_, train) = pods("jobset.yaml")[0]
    assert f"--master-addr={name}-{job['name']}-0-0.{item['spec']['network']['subdomain']}" in train["args"]
    assert item["spec"]["network"]["publishNotReadyAddresses"] is True
    nodes = {each["name"]: each["value"] for each in train["env"]}["NODES"]
    assert int(nodes) == spec["completions"] == spec["parallelism"]


def test_a_train_job_takes_its_runtime() -> None:
    runtime, job = objects("trainjob.yaml")
    reference = job["spec"]["runtimeRef"]
    assert (reference["kind"], reference["name"]) == (runtime["kind"], runtime["metadata"]["name"])
    assert runtime["spec"]["mlPolicy"]["numNodes"] == job["spec"]["trainer"]["numNodes"]
    gpus = job["spec"]["trainer"]["resourcesPerNode"]["limits"]["nvidia.com/gpu"]
    assert job["spec"]["trainer"]["numProcPerNode"] == gpus
    assert (ROOT / job["spec"]["trainer"]["command"][1]).exists()


def test_a_pytorch_job_starts_again_by_a_status_that_its_operator_tries_again() -> None:
    (job,) = objects("pytorchjob.yaml")
    replicas = job["spec"]["pytorchReplicaSpecs"]
    assert {replica["restartPolicy"] for replica in replicas.values()} == {"ExitCode"}
    for _, train in pods("pytorchjob.yaml"):
        assert train["name"] == "pytorch"
        (word,) = (word for word in train["args"] if word.startswith("--preempted-status="))
        assert 128 <= int(word.partition("=")[2]) <= 255
        assert str(train["resources"]["limits"]["nvidia.com/gpu"]) == job["spec"]["nprocPerNode"]


def skypilot_lines() -> list[list[str]]:
    """The commands of the SkyPilot task with its variables put in, as the shell splits them."""
    (task,) = objects("skypilot.yaml")
    values = {
        **task["envs"],
        "SKYPILOT_NUM_NODES": str(task["num_nodes"]),
        "SKYPILOT_NUM_GPUS_PER_NODE": task["resources"]["accelerators"].partition(":")[2],
        "SKYPILOT_NODE_RANK": "1",
    }
    text = task["run"].replace('$(echo "$SKYPILOT_NODE_IPS" | head -n1)', "10.0.0.1")
    for name in sorted(values, key=len, reverse=True):
        text = re.sub(rf"\${name}\b|(?<=[( ]){name}(?=[ )])", values[name], text)
    product = re.search(r"\$\(\((\d+) \* (\d+)\)\)", text)
    assert product is not None
    text = text.replace(product.group(0), str(int(product.group(1)) * int(product.group(2))))
    return [shlex.split(line) for line in text.splitlines() if "launch/pretrain.py" in line]


def test_skypilot_tries_again_after_75_and_checks_what_it_trains() -> None:
    (task,) = objects("skypilot.yaml")
    assert task["resources"]["job_recovery"]["recover_on_exit_codes"] == [75]
    check, train = skypilot_lines()
    assert settings(check) == settings(train)
    assert "--ranks=16" in check
    assert "--node-rank=1" in train
    assert "--master-addr=10.0.0.1" in train
    assert not [word for word in (*check, *train) if "$" in word]
    assert f"run.dir={train[train.index('--run-dir') + 1]}" in train


def dry_run_words(name: str) -> list[list[str]]:
    """The words of every check, and those of every training as a check would have them."""
    if name == "skypilot.yaml":
        check, train = skypilot_lines()
        return [check[2:], ["--dry-run", "--ranks=16", *settings(train)]]
    words = []
    for check, train in pods(name):
        words += [check["command"][2:], ["--dry-run", "--ranks=16", *settings(train["args"])]]
    return words


def split_of(name: str, shards: int) -> SplitEntry:
    """A split of so many shards of 2,000 clips, of which only the numbers are there."""
    entries = tuple(
        ShardEntry(name=f"{name}-{number:06d}.tar", clips=2000, bytes=10**9, sha256="0" * 64)
        for number in range(shards)
    )
    clips = 2000 * shards
    return SplitEntry(
        clips=clips, frames=250 * clips, seconds=10.0 * clips, bytes=10**9 * shards, shards=entries
    )


@pytest.mark.parametrize("name", [*KUBERNETES, "skypilot.yaml"])
def test_commands_are_ones_that_our_own_command_line_takes(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / MANIFEST_NAME).write_bytes(
        Manifest(
            recipe={}, splits={"train": split_of("train", 120), "val": split_of("val", 3)}, labels=None
        ).to_json()
    )
    monkeypatch.chdir(ROOT)
    for variable in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(variable, raising=False)
    for words in dict.fromkeys(map(tuple, dry_run_words(name))):
        here = [
            {"data.shards": f"data.shards={tmp_path}", "run.dir": f"run.dir={tmp_path / 'run'}"}.get(
                word.partition("=")[0], word
            )
            for word in words
        ]
        assert main([*here, "--json"]) == 0, capsys.readouterr().err
        assert json.loads(capsys.readouterr().out)
        assert main([*here, "run.dri=x"]) == 2
        assert "did you mean run.dir" in capsys.readouterr().err


def test_supervise_may_say_another_status_for_75(capfd: pytest.CaptureFixture[str]) -> None:
    import subprocess
    import sys

    def status(code: int) -> int:
        words = ["--preempted-status=175", "--", sys.executable, "-c", f"raise SystemExit({code})"]
        return subprocess.run([sys.executable, str(CLUSTER / "supervise.py"), *words], check=False).returncode

    assert [status(code) for code in (75, 2, 0)] == [175, 2, 0]
