"""Networks deployed on GPUs: by the emulation of their kernels here, and on a GPU (`-m gpu`)."""

from __future__ import annotations

import copy
import gc
import random
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import ptqsr
from ptqsr import PtqsrError, native
from ptqsr.deployment import DeployedNetwork, Store, network, program
from ptqsr.deployment.graphs import Graphs
from ptqsr.models import SRNetwork
from ptqsr.ops.cuda.kernel import KERNELS

from .cases import VARIANTS, deployed, floating, picture, psnr, quantized
from .test_choosing import alike, choosing, patches, run

# A picture in float16 is this close to itself, in dB: far closer than its 8 bits.
HALF = 70

EVERY = pytest.mark.parametrize("variant", VARIANTS)
# IDN is that on luma but for its ends, and nibbles are bytes to a plan: the deepest go without.
EMULATED = [
    (variant, method)
    for variant in VARIANTS
    for method in ("dfsq4", "minmax8", "minmax4")
    if variant != "idn" and not (method == "minmax4" and variant in ("carn", "carn_m", "idn_y"))
]


class OnEmulation(TorchDispatchMode):
    """Runs operations by GPU kernels that run here."""

    def __init__(self, module: Any) -> None:
        super().__init__()
        self.module = module

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        name = func._schema.name.removeprefix("ptqsr::")
        if func.namespace != "ptqsr":
            return func(*args, **(kwargs or {}))
        return KERNELS[name](self.module, *args)


@pytest.fixture
def emulation() -> Any:
    try:
        from ptqsr import _emulated
    except ImportError:
        pytest.skip("this build has no emulation: -C cmake.define.PTQSR_EMULATION=ON")
    _emulated.emulate(1, 80)
    return _emulated


def as_on_a_gpu(fake: SRNetwork) -> DeployedNetwork:
    """What `deploy(fake, "cuda")` makes, in the host's memory."""
    ours = copy.deepcopy(fake)
    store = Store()
    plans = network.plan_methods(ours, None, torch.float16)
    programs = {method: program(plan, store) for method, plan in plans.items()}
    return DeployedNetwork(ours, plans["forward"], store, programs).eval()


@pytest.mark.parametrize(("variant", "method"), EMULATED)
@torch.no_grad()
def test_emulated_networks(variant: str, method: str, emulation: Any) -> None:
    """Float16 between layers costs little beside what quantizing costs, in every layer."""
    fake = quantized(variant, method)
    # A kernel's tile is 8x16: what takes statistics has several to take them over.
    x = picture(fake, 9, 10) if method == "dfsq4" else picture(fake, 7, 9)
    expected = fake(x)
    ours = as_on_a_gpu(fake)
    assert all(record.dtype != torch.float32 for record in ours.plan.convolutions)
    with OnEmulation(emulation):
        y = ours(x)
    assert y.dtype == torch.float32 and y.shape == expected.shape
    cost = psnr(expected, floating(variant)(x))
    on_cpu = psnr(deployed(variant, method, torch.float16)(x), expected)
    assert psnr(y, expected) > min(cost - 2, on_cpu - 2, HALF), (psnr(y, expected), cost, on_cpu)


@torch.no_grad()
def test_emulated_batches_of_different_pictures(emulation: Any) -> None:
    """A picture's result does not depend on what else is in the batch."""
    ours = as_on_a_gpu(quantized("edsr", "dfsq4"))
    pictures = [picture(ours, 9, 13, seed) * gain for seed, gain in ((1, 1.0), (2, 0.1), (3, 0.0))]
    with OnEmulation(emulation):
        together = ours(torch.cat(pictures))
        for one, y in zip(pictures, together, strict=True):
            assert torch.equal(ours(one)[0], y)


@torch.no_grad()
def test_emulated_network_that_chooses(emulation: Any) -> None:
    fake = quantized("edsr", "minmax8")
    x = patches(fake)
    simulated = choosing(fake, x)
    (wanted, theirs), ours = run(simulated, x), as_on_a_gpu(simulated)
    with OnEmulation(emulation):
        y, chosen = run(ours, x)
    assert alike(chosen, theirs) >= 0.9
    assert psnr(y, wanted) > 30


# ---- recordings


class Recorded:
    """A recording that counts what it is used for."""

    made: ClassVar[list[Recorded]] = []

    def __init__(self, function: Callable[..., torch.Tensor], inputs: Sequence[torch.Tensor]):
        self.function, self.shape, self.replays = function, inputs[0].shape, 0
        Recorded.made.append(self)

    def __call__(self, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        self.replays += 1
        return self.function(*inputs)


def test_a_shape_that_comes_again_is_recorded() -> None:
    Recorded.made.clear()
    graphs = Graphs(2, Recorded)
    shapes = [(1, 2), (1, 2), (1, 2), (3, 2), (3, 2), (4, 2), (4, 2), (1, 2), (1, 2)]
    for shape in shapes:
        assert torch.equal(graphs.run("f", torch.neg, [torch.ones(shape)]), -torch.ones(shape))
        assert len(graphs) <= 2
    # (1, 2) made room for (4, 2), and was made again when it had come twice again.
    assert [tuple(r.shape) for r in Recorded.made] == [(1, 2), (3, 2), (4, 2), (1, 2)]
    assert [r.replays for r in Recorded.made] == [2, 1, 1, 1]
    graphs.run("g", torch.neg, [torch.ones(1, 2)])
    assert len(Recorded.made) == 4  # another function, seen once
    graphs.clear()
    assert len(graphs) == 0


def test_no_recordings_where_none_are_wanted_or_there_is_no_memory(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def no_memory(*_: object) -> Recorded:
        raise torch.OutOfMemoryError("none left")

    x = [torch.ones(3)]

    def fails(*_: object) -> Recorded:
        raise RuntimeError("operation not permitted when stream is capturing\nand more")

    for graphs in (Graphs(0, Recorded), Graphs(2, no_memory), Graphs(2, fails)):
        for _ in range(3):
            assert torch.equal(graphs.run("f", torch.neg, x), -x[0])
        assert len(graphs) == 0
    first, second = caplog.messages  # each once
    assert first.startswith("no CUDA graph for inputs of shape (3,): there is no memory for it.")
    assert "shape (3,): operation not permitted when stream is capturing. Every" in second


def test_copies_begin_without_recordings() -> None:
    ours = copy.deepcopy(deployed("edsr", "dfsq4"))
    assert ours._graphs.limit == 8 and len(ours._graphs) == 0
    assert copy.deepcopy(ours)._graphs is not ours._graphs


# ---- devices


def test_devices_that_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = quantized("edsr", "dfsq4")
    with pytest.raises(PtqsrError, match="device tpu: no such device; give cpu, cuda or cuda:1"):
        ptqsr.deploy(fake, "tpu")
    with pytest.raises(PtqsrError, match="device meta: deployed networks run on cpu or cuda"):
        ptqsr.deploy(fake, "meta")
    with pytest.raises(PtqsrError, match="device None: no such device"):
        ptqsr.deploy(fake, None)  # type: ignore[arg-type]
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(PtqsrError, match=r"device cuda: this PyTorch .* install one"):
        ptqsr.deploy(fake, "cuda")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
    with pytest.raises(PtqsrError, match="device cuda:3: there is no such GPU; PyTorch finds 1"):
        ptqsr.deploy(fake, "cuda:3")
    monkeypatch.setattr(native, "cuda_problem", lambda capability: f"none for {capability}")
    with pytest.raises(PtqsrError, match=r"device cuda:0: .* slow PyTorch references .*for 75"):
        ptqsr.deploy(fake, "cuda:0")


# ---- on a GPU


@pytest.mark.gpu
@pytest.mark.parametrize("method", ["dfsq4", "minmax8", "minmax4"])
@EVERY
@torch.no_grad()
def test_networks_on_a_gpu(variant: str, method: str, gpu: None) -> None:
    fake = quantized(variant, method)
    x = picture(fake)
    expected, ours = fake(x), ptqsr.deploy(fake, "cuda")
    results = [ours(x.cuda()).cpu() for _ in range(4)]  # the last two are replayed
    assert all(torch.equal(y, results[0]) for y in results) and len(ours._graphs) == 1
    cost = psnr(expected, floating(variant)(x))
    on_cpu = psnr(deployed(variant, method, torch.float16)(x), expected)
    assert psnr(results[0], expected) > min(cost - 2, on_cpu - 2, HALF)


@pytest.mark.gpu
@torch.no_grad()
def test_recordings_follow_changes(gpu: None) -> None:
    ours = ptqsr.deploy(quantized("edsr", "dfsq4"), "cuda")
    x = picture(ours).cuda()
    before = [ours(x) for _ in range(3)][-1]
    for name, buffer in ours.named_buffers():
        if name.endswith("bias"):
            buffer.add_(0.1)
    after = [ours(x) for _ in range(3)]
    assert not torch.equal(after[0], before)
    assert all(torch.equal(y, after[0]) for y in after)
    moved = ours.cpu().cuda()
    assert len(moved._graphs) == 0 and torch.equal(moved(x), after[0])


@pytest.mark.gpu
def test_recorded_and_replayed_in_other_modes(gpu: None) -> None:
    x = picture(quantized("edsr", "dfsq4")).cuda()
    for first, second in (
        (torch.inference_mode, torch.no_grad), (torch.no_grad, torch.inference_mode)
    ):  # fmt: skip
        ours = ptqsr.deploy(quantized("edsr", "dfsq4"), "cuda")
        with first():
            before = [ours(x) for _ in range(2)]
        with second():
            assert all(torch.equal(ours(x), y) for y in before)


@pytest.mark.gpu
@torch.no_grad()
def test_two_networks_from_two_threads_at_first(gpu: None) -> None:
    """Weights are packed and graphs recorded while others run."""
    made = [ptqsr.deploy(quantized("edsr", m), "cuda") for m in ("minmax8", "dfsq4")]
    x = picture(made[0]).cuda()

    def work(i: int) -> list[torch.Tensor]:
        with torch.no_grad(), torch.cuda.stream(torch.cuda.Stream()):
            found = [made[i % 2](x) for _ in range(8)]
            torch.cuda.current_stream().synchronize()
        return found

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(work, range(4)))
    for i, found in enumerate(results):
        assert all(torch.equal(y, results[i % 2][0]) for y in found)


@pytest.mark.gpu
@torch.no_grad()
def test_streams_threads_and_sizes_on_a_gpu(gpu: None) -> None:
    """A thousand pictures: every one right, and no memory lost."""
    ours = ptqsr.deploy(quantized("edsr", "dfsq4"), "cuda", graphs=4)
    plain = ptqsr.deploy(quantized("edsr", "dfsq4"), "cuda", graphs=0)
    draw = random.Random(0)
    sizes = [(draw.randint(5, 60), draw.randint(5, 60)) for _ in range(12)]
    pictures = [picture(ours, *size, seed=i).cuda() for i, size in enumerate(sizes)]
    expected = [plain(x) for x in pictures]
    torch.cuda.synchronize()

    def work(seed: int) -> None:
        mine = random.Random(seed)
        with torch.no_grad(), torch.cuda.stream(torch.cuda.Stream()):
            for _ in range(125):
                i = mine.randrange(len(pictures))
                assert torch.equal(ours(pictures[i]), expected[i])

    def used() -> int:
        gc.collect()
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        return torch.cuda.memory_allocated()

    levels = []
    for start in (0, 8):
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(work, range(start, start + 4)))
        levels.append(used())
    assert len(ours._graphs) <= 4
    assert levels[1] <= levels[0] * 1.05 + (1 << 20)
