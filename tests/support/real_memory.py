"""What torch's allocator hands out during a real training step."""

from __future__ import annotations

from typing import Any


def real_peak(workload: Any, variant: Any, layers: int, batch_size: int) -> int:
    """Peak bytes of the step that `measure` runs on fake tensors, run on real ones.

    torch's profiler reports every allocation and every release of the CPU allocator, those inside kernels included.
    Their running sum is added to the size of what was there before: weights, optimizer and batch.
    """
    from torch import Tensor
    from torch.profiler import ProfilerActivity, profile

    from hfscale.launch.plan.fake_step import example_batch, prepared_model, run_step, start_optimizer
    from hfscale.training.optimizers import build_optimizer

    model = prepared_model(workload, variant, layers)
    optimizer = build_optimizer(model, workload.optim)
    start_optimizer(model, optimizer)
    batch = example_batch(workload, batch_size)
    states = [each for state in optimizer.state.values() for each in state.values() if isinstance(each, Tensor)]
    tensors = [*model.parameters(), *model.buffers(), *states, *batch.inputs.values()]
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        run_step(workload, variant, model, optimizer, batch)
    results: Any = profiler.profiler
    events = [event for event in results.kineto_results.events() if event.name() == "[memory]"]
    now = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return sum(storages.values()) + peak
