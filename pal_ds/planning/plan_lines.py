"""A run's plan in six lines: what a start prints before its first step."""

from __future__ import annotations

from pal_ds import storage
from pal_ds.config import Config
from pal_ds.planning.run_plan import RunPlan


def plan_lines(config: Config, plan: RunPlan, *, step: int) -> list[str]:
    """Return six lines: data, batch, model, length, reading, output.

    Args:
        config: the run.
        plan: its arithmetic.
        step: steps that are done already; 0 in a new run.
    """
    data, model, epoch = config.data, config.model, plan.epoch
    epochs = plan.total_steps / epoch.steps_per_epoch
    begin = f"{'resuming' if step else 'starting'} at step {step}, {plan.world_size} ranks"
    width = "" if model.width == 1 else f" at width {model.width:g}"
    workers = data.workers if data.workers == "auto" else f"{data.workers} a rank"
    rows = {
        "data": f"{storage.redact(str(data.shards))}: {epoch.clips} clips, "
        f"validation {'on' if plan.has_validation else 'off'}",
        "batch": f"{data.global_batch} videos = {plan.world_size} ranks x {plan.micro_batch} x "
        f"{data.accumulation} micro-steps, groups of {epoch.group_size}",
        "model": f"{config.objective.name} with {model.backbone}{width}, queue of {config.queue.size}, "
        f"{config.precision}, ZeRO {config.zero_stage}",
        "length": f"{plan.total_steps} steps = {epochs:.1f} epochs of {epoch.steps_per_epoch}; {begin}",
        "reading": f"{epoch.clip_bytes * data.global_batch / 1e6:.1f} MB a step, decoding processes: {workers}",
        "output": f"{storage.redact(config.run.dir)}: a row every {config.log.every_steps}, "
        f"a checkpoint every {config.checkpoint.every_steps} steps",
    }
    return [f"{name:<8} {text}" for name, text in rows.items()]
