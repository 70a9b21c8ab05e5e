"""The settings file for `accelerate launch` that a strategy needs."""

from __future__ import annotations

from typing import Any

import yaml

from hfscale.launch.plan.plan import Plan, Row


def accelerate_config(plan: Plan, row: Row) -> dict[str, Any]:
    """Settings as accelerate's own questionnaire writes them."""
    way, cluster = row.strategy, plan.cluster
    config: dict[str, Any] = {
        "compute_environment": "LOCAL_MACHINE",
        "debug": False,
        "distributed_type": "DEEPSPEED" if way.zero_stage else "MULTI_GPU" if cluster.num_gpus > 1 else "NO",
        "machine_rank": 0,
        "main_training_function": "main",
        "mixed_precision": "no" if plan.workload.precision == "fp32" else plan.workload.precision,
        "num_machines": cluster.num_nodes,
        "num_processes": cluster.num_gpus,
        "use_cpu": False,
    }
    if cluster.num_gpus > 1:
        config |= {"rdzv_backend": "static", "same_network": True}
    if not way.zero_stage:
        return config | {"gpu_ids": "all"}
    deepspeed: dict[str, Any] = {
        "gradient_accumulation_steps": 1,  # hfscale accumulates, and would otherwise divide twice
        "offload_optimizer_device": "cpu" if way.offload_optimizer else "none",
        "offload_param_device": "cpu" if way.offload_weights else "none",
        "zero3_init_flag": False,  # hfscale shares the weights out, and writes whole models, by itself
        "zero3_save_16bit_model": False,
        "zero_stage": way.zero_stage,
    }
    if cluster.num_nodes > 1:
        deepspeed["deepspeed_multinode_launcher"] = "standard"
    return config | {"deepspeed_config": deepspeed}


def recipe_flags(plan: Plan, row: Row) -> str:
    """What a recipe has to be told beside the launcher's file."""
    flags = [f"--train.micro_batch_size {row.micro_batch_size}"]
    if row.strategy.checkpointing:
        flags.append("--train.activation_checkpointing true")
    if row.strategy.adapters and plan.workload.lora is None:
        flags += ["--lora.r 16", *(["--quant.bits 4"] if row.strategy.adapters == "qlora" else [])]
    return " ".join(flags)


def accelerate_yaml(plan: Plan, row: Row) -> str:
    """The file's text, with what it was planned for and what has to be set beside it."""
    way, cluster = row.strategy, plan.cluster
    lines = [
        f"# {way.title}: {plan.workload.name} on {cluster.num_gpus} x {cluster.gpu.title}, planned by hfscale",
        f"# global batch {plan.workload.global_batch_size}, {row.accumulation_steps} passes of "
        f"{row.micro_batch_size} on each GPU, {plan.workload.lengths} tokens per sequence",
    ]
    lines.append(f"# accelerate launch --config_file THIS_FILE RECIPE {recipe_flags(plan, row)}")
    if cluster.num_nodes > 1:
        lines.append("# on each node: --machine_rank N --main_process_ip ADDRESS --main_process_port PORT")
    return "\n".join(lines) + "\n" + yaml.safe_dump(accelerate_config(plan, row), sort_keys=True)
