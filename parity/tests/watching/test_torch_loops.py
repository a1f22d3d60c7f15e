"""Loops of torch as their users write them: the update is recorded as it was made, or it is said what to write."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from parity.recording.reader import read
from parity.recording.steps import steps_of

UPDATES = 4


def small(seed: int = 0) -> Any:
    import torch

    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.Tanh(), torch.nn.Dropout(0.1), torch.nn.Linear(4, 3))


def batches() -> list[tuple[Any, Any]]:
    import torch

    draw = torch.Generator().manual_seed(1)
    return [
        (torch.randn(16, 5, generator=draw), torch.randint(0, 3, (16,), generator=draw)) for _ in range(8 * UPDATES)
    ]


def entropy(*given: Any, **named: Any) -> Any:
    import torch

    return torch.nn.functional.cross_entropy(*given, **named)


# Each loop trains, watched or not, and gives its model and the losses of the updates that it made.


def accumulated(watching: Any, step: bool) -> Any:
    import torch

    model = small()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    losses = []
    with watching(model, optimizer):
        for x, y in batches()[:UPDATES]:
            optimizer.zero_grad()
            total = 0.0
            for half in (slice(0, 4), slice(4, 16)):
                loss = entropy(model(x[half]), y[half]) / 2
                loss.backward()
                total += loss.item()
            optimizer.step()
            losses.append(total)
    return model, losses


def scaled(watching: Any, step: bool, fused: bool = False, late: bool = False) -> Any:
    """Mixed precision; the second update overflows and is skipped."""
    import torch

    model = small()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, fused=fused)
    scaler = torch.amp.GradScaler("cpu", growth_interval=2)
    losses = []
    with watching(model, optimizer) as run:
        for k, (x, y) in enumerate(batches()[:UPDATES]):

            def update(x: Any = x, y: Any = y, times: float = float("inf") if k == 1 else 1.0) -> Any:
                if not late:
                    optimizer.zero_grad()
                loss = entropy(model(x), y) * times
                if late:
                    optimizer.zero_grad()
                scaler.scale(loss).backward()
                if not fused:
                    scaler.unscale_(optimizer)
                    torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
                scaler.step(optimizer)
                scaler.update()
                return loss

            loss = run.step(update) if run is not None and step else update()
            if k != 1:
                losses.append(loss.item())
    assert scaler.get_scale() == 2**16
    return model, losses


def scaled_fused(watching: Any, step: bool) -> Any:
    return scaled(watching, step, fused=True)


def scaled_and_cleared_late(watching: Any, step: bool) -> Any:
    return scaled(watching, step, late=True)


def evaluated_often(watching: Any, step: bool, whole: bool = False) -> Any:
    """LBFGS calls the closure several times in an update; its first loss is that of the weights before."""
    import torch

    model = small()
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=3)
    losses = []
    with watching(model, optimizer) as run:
        for x, y in batches()[:UPDATES]:

            def closure(x: Any = x, y: Any = y) -> Any:
                optimizer.zero_grad()
                loss = entropy(model(x), y)
                loss.backward()
                return loss

            if run is None or not step:
                loss = optimizer.step(closure)
            elif whole:
                loss = run.step(lambda closure=closure: optimizer.step(closure))
            else:
                loss = run.step(lambda x=x, y=y: entropy(model(x), y))
            losses.append(loss.item())
    return model, losses


def evaluated_often_as_a_whole(watching: Any, step: bool) -> Any:
    return evaluated_often(watching, step, whole=True)


def skipped(watching: Any, step: bool) -> Any:
    """A loop that leaves an update out after its backward pass."""
    import torch

    model = small()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    losses = []
    with watching(model, optimizer):
        for k, (x, y) in enumerate(batches()[:UPDATES]):
            loss = entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            if k == 1:
                continue
            optimizer.step()
            losses.append(loss.item())
    return model, losses


def generator(watching: Any, step: bool) -> Any:
    """The generator of a GAN: the discriminator's loss goes through it, and makes none of its updates."""
    import torch

    model, critic = small(), torch.nn.Linear(3, 1)
    own, other = torch.optim.Adam(model.parameters(), lr=0.01), torch.optim.Adam(critic.parameters(), lr=0.01)
    losses = []
    with watching(model, own):
        for k, (x, _) in enumerate(batches()[:UPDATES]):
            made = model(x)
            other.zero_grad()
            critic(made if k % 2 else made.detach()).square().mean().backward(retain_graph=bool(k % 2))
            other.step()
            own.zero_grad(set_to_none=k < 2)
            loss = -critic(made).mean()
            loss.backward()
            own.step()
            losses.append(loss.item())
    return model, losses


def discriminator(watching: Any, step: bool) -> Any:
    """The discriminator of a GAN: two backward passes are its update, and the generator's loss is none of it."""
    import torch

    model, maker = small(), torch.nn.Linear(5, 5)
    own, other = torch.optim.Adam(model.parameters(), lr=0.01), torch.optim.Adam(maker.parameters(), lr=0.01)
    losses = []
    with watching(model, own):
        for x, _ in batches()[:UPDATES]:
            real = model(x).square().mean()
            own.zero_grad()
            real.backward()
            made = maker(x)
            fake = (model(made.detach()) - 1).square().mean()
            fake.backward()
            own.step()
            losses.append((real + fake).item())
            other.zero_grad()
            model(made).mean().backward()
            other.step()
    return model, losses


def by_the_function(watching: Any, step: bool) -> Any:
    import torch

    return plain(watching, step, lambda model, loss: torch.autograd.backward(loss))


def never_cleared(watching: Any, step: bool) -> Any:
    """Gradients add up from update to update, as without a call of zero_grad()."""
    import torch

    model = small()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    losses = []
    with watching(model, optimizer) as run:
        for x, y in batches()[:UPDATES]:

            def update(x: Any = x, y: Any = y) -> Any:
                loss = entropy(model(x), y)
                loss.backward()
                optimizer.step()
                return loss

            losses.append((run.step(update) if run is not None and step else update()).item())
    return model, losses


def by_differentiation(watching: Any, step: bool) -> Any:
    import torch

    def backward(model: Any, loss: Any) -> None:
        for p, gradient in zip(model.parameters(), torch.autograd.grad(loss, model.parameters()), strict=True):
            p.grad = gradient

    return plain(watching, step, backward)


def by_a_vector(watching: Any, step: bool) -> Any:
    import torch

    def backward(model: Any, loss: Any) -> None:
        loss.backward(torch.full_like(loss, 1 / len(loss)))

    return plain(watching, step, backward, reduction="none")


def plain(watching: Any, step: bool, backward: Callable[..., None], **named: Any) -> Any:
    import torch

    model = small()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    losses = []
    with watching(model, optimizer) as run:
        for x, y in batches()[:UPDATES]:

            def update(x: Any = x, y: Any = y) -> Any:
                optimizer.zero_grad()
                loss = entropy(model(x), y, **named)
                backward(model, loss)
                return loss.mean()

            if run is not None and step:
                loss = run.step(update)
            else:
                loss = update()
                optimizer.step()
            losses.append(loss.item())
    return model, losses


def returned(watching: Any, step: bool) -> Any:
    """Closures that return more than the loss, and a rate that changes in the closure and after it."""
    import torch

    model, head = small(), torch.nn.Linear(3, 3)
    optimizer = torch.optim.Adam([*model.parameters(), *head.parameters()], lr=0.01)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 5)
    losses = []
    with watching(model, optimizer) as run:
        for k, (x, y) in enumerate(batches()[:UPDATES]):

            def loss_of(k: int = k, x: Any = x, y: Any = y) -> Any:
                optimizer.param_groups[0]["lr"] *= 0.9
                said = model(x)
                loss = entropy(head(said), y)
                return {"loss": loss, "said": said} if k % 2 else (loss, said)

            if run is not None and step:
                found = run.step(loss_of)
            else:
                optimizer.zero_grad()
                found = loss_of()
                (found["loss"] if k % 2 else found[0]).backward()
                optimizer.step()
            losses.append((found["loss"] if k % 2 else found[0]).item())
            scheduler.step()
    model.append(head)
    return model, losses


STAY = (accumulated, skipped, generator, discriminator)
HANDED = (returned, evaluated_often_as_a_whole)
SCALED = (scaled, scaled_fused, scaled_and_cleared_late)
BOTH = (*SCALED, evaluated_often, by_the_function, never_cleared, by_differentiation, by_a_vector)
LOOPS = [(each, False) for each in STAY + BOTH] + [(each, True) for each in HANDED + BOTH]
NAMES = [f"{loop.__name__}{'-handed-to-step' if step else ''}" for loop, step in LOOPS]


def trained(folder: str) -> dict[str, dict[str, Any]]:
    """Called where torch is: every loop unwatched and watched."""
    import torch

    from parity.watching import watch

    found = {}
    for name, (loop, step) in zip(NAMES, LOOPS, strict=True):
        where = Path(folder, name)

        def watching(*pair: Any, where: Path = where) -> Any:
            return watch(where, *pair, shadows=2)

        alone, losses = loop(lambda *pair: nullcontext(), step)
        model, watched = loop(watching, step)
        states = zip(alone.state_dict().values(), model.state_dict().values(), strict=True)
        found[name] = {
            "folder": str(where),
            "losses": losses,
            "same": losses == watched and all(torch.equal(one, other) for one, other in states),
        }
    assert torch.autograd.backward.__module__ == "torch.autograd"
    assert "step" not in vars(torch.optim.lr_scheduler.StepLR)
    assert torch.nn.Module.zero_grad.__qualname__ == "Module.zero_grad"
    assert torch.amp.GradScaler.scale.__code__.co_filename.endswith("grad_scaler.py")
    return found


@pytest.mark.asks(question=trained, framework="torch")
class TestLoops:
    def test_a_watched_loop_changes_no_bit(self, answer: dict[str, dict[str, Any]]) -> None:
        assert [name for name, loop in answer.items() if not loop["same"]] == []

    @pytest.mark.parametrize("name", NAMES)
    def test_the_loss_is_the_one_that_makes_the_update(self, name: str, answer: dict[str, dict[str, Any]]) -> None:
        run = read(Path(answer[name]["folder"]))
        np.testing.assert_allclose(run.loss.ravel(), answer[name]["losses"], rtol=1e-6)

    @pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("scaled")])
    def test_nothing_in_a_recording_is_scaled(self, name: str, answer: dict[str, dict[str, Any]]) -> None:
        for step in steps_of(read(Path(answer[name]["folder"]))):
            numbers = {**step.gradients, **step.activation_gradients}
            assert len(step.activation_gradients) == 4
            assert 0 < max(float(np.abs(value).max()) for value in numbers.values()) < 1

    @pytest.mark.parametrize("name", [name for name in NAMES if name.startswith(("skipped", "generator", "evaluated"))])
    def test_calls_that_made_no_update_are_none_of_its_layers(
        self, name: str, answer: dict[str, dict[str, Any]]
    ) -> None:
        run = read(Path(answer[name]["folder"]))
        assert [layer["name"] for layer in run.meta["layers"]] == ["0", "1", "2", "3"]
        for step in steps_of(run):
            assert step.prediction.shape == (16, 3)

    def test_gradients_are_those_of_the_first_evaluation(self, answer: dict[str, dict[str, Any]]) -> None:
        often = steps_of(read(Path(answer["evaluated_often"]["folder"])))[0]
        once = steps_of(read(Path(answer["by_the_function"]["folder"])))[0]
        for name, value in once.gradients.items():
            np.testing.assert_array_equal(often.gradients[name], value)


def refused(folder: str) -> dict[str, str]:
    """Called where torch is: loops that cannot be recorded as they are, each with the words that say so."""
    import torch

    from parity.watching import watch

    def pair() -> Any:
        model = small()
        return model, torch.optim.SGD(model.parameters(), lr=0.1)

    x, y = batches()[0]

    def handed(closure: Callable[..., Any], **options: Any) -> None:
        model, optimizer = pair()
        given = iter(batches())
        draw = torch.Generator().manual_seed(0)
        with watch(Path(folder, "run"), model, optimizer, **options) as run:
            for _ in range(2):
                run.step(closure, model, optimizer, given, draw)

    def whole(model: Any, optimizer: Any) -> None:
        optimizer.zero_grad()
        entropy(model(x), y).backward()
        optimizer.step()

    other = torch.optim.Adam([torch.nn.Parameter(torch.ones(2))])
    scheduler = torch.optim.lr_scheduler.StepLR(torch.optim.SGD([torch.ones(1, requires_grad=True)], lr=1.0), 9)
    times, last = iter(range(1, 100)), iter(batches()[:1])

    def in_backward() -> None:
        model = small()
        each = {p: torch.optim.SGD([p], lr=0.1) for p in model.parameters()}

        def update(p: Any) -> None:
            each[p].step()
            each[p].zero_grad()

        for p in each:
            p.register_post_accumulate_grad_hook(update)
        with watch(Path(folder, "run"), model, each[model[0].weight]):
            entropy(model(x), y).backward()

    def by_hand() -> None:
        model, optimizer = pair()
        with watch(Path(folder, "run"), model, optimizer):
            model(x)
            for p in model.parameters():
                p.grad = torch.ones_like(p)
            optimizer.step()

    def watched(*what: Any) -> Callable[[], Any]:
        return lambda: watch(Path(folder, "run"), *what)

    model, optimizer = pair()
    ways: dict[str, Callable[[], Any]] = {
        "another optimizer": lambda: handed(lambda m, o, *_: (whole(m, o), other.step())),
        "another optimizer, alone": lambda: handed(lambda m, o, *_: (whole(m, o), other.step()), shadows=0),
        "scheduler": lambda: handed(lambda m, o, *_: (whole(m, o), scheduler.step())),
        "setting": lambda: handed(lambda m, o, *_: (o.param_groups[0].update(lr=next(times)), whole(m, o))),
        "iterator": lambda: handed(lambda m, o, given, _: entropy(m(next(given)[0]), y)),
        "generator": lambda: handed(lambda m, o, _, draw: entropy(m(x[torch.randperm(16, generator=draw)]), y)),
        "end of an iterator": lambda: handed(lambda m, *_: entropy(m(next(last)[0]), y)),
        "number": lambda: handed(lambda m, *_: entropy(m(x), y).item()),
        "nothing": lambda: handed(lambda m, *_: {"entropy": entropy(m(x), y)}),
        "vector": lambda: handed(lambda m, *_: entropy(m(x), y, reduction="none")),
        "detached": lambda: handed(lambda m, *_: entropy(m(x), y).detach()),
        "in the backward pass": in_backward,
        "gradients by hand": by_hand,
        "two optimizers": watched(model, optimizer, other),
        "a list of optimizers": watched(model, [optimizer, other]),
        "with a scheduler": watched(model, optimizer, scheduler),
        "swapped": watched(optimizer, model),
    }
    found = {}
    for name, way in ways.items():
        try:
            way()
            found[name] = "it went well"
        except ValueError as error:
            found[name] = str(error)
    return found


WORDS = {
    "another optimizer": "steps another optimizer too, Adam, and step calls the closure once more for each shadow",
    "another optimizer, alone": "it went well",
    "scheduler": "calls step() of a StepLR, and step calls the closure once more for each shadow: call it after step",
    "setting": "changes the optimizer's lr",
    "iterator": "take the batch outside of the closure",
    "generator": "the same goes for numbers of a torch.Generator of your own",
    "end of an iterator": "take the batch outside of the closure",
    "number": "the closure returned a float",
    "nothing": "the closure returned a dict with no tensor of the name loss",
    "vector": "the closure returned a tensor of shape (16,)",
    "detached": "the closure returned a loss without a gradient",
    "in the backward pass": "the optimizer steps within the backward pass",
    "gradients by hand": "no backward pass reached the parameters of the watched module",
    "two optimizers": "Watch each with the module that it trains",
    "a list of optimizers": "Watch each with the module that it trains",
    "with a scheduler": "leave the scheduler out",
    "swapped": "it went well",
}


@pytest.mark.asks(question=refused, framework="torch")
@pytest.mark.parametrize("name", WORDS)
def test_what_a_loop_is_to_do_instead_is_said(name: str, answer: dict[str, str]) -> None:
    assert WORDS[name] in answer[name]


def idle(folder: str) -> list[list[str]]:
    """Called where torch is: the warnings of a run that makes no update, and of one that does."""
    import torch

    from parity.watching import watch

    found = []
    for updates in (0, 1):
        model = small()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with watch(Path(folder, "run"), model, optimizer) as run:
                for x, y in batches()[:updates]:
                    run.step(lambda x=x, y=y, model=model: entropy(model(x), y))
        found.append([f"{each.category.__name__} {Path(each.filename).name}: {each.message}" for each in caught])
    return found


@pytest.mark.asks(question=idle, framework="torch")
def test_a_run_without_an_update_warns_what_to_write(answer: list[list[str]]) -> None:
    (said,), nothing = answer
    assert said.startswith("UserWarning test_torch_loops.py: no update was seen")
    assert "run.step(lambda: loss_of(model(x), y))" in said
    assert not nothing


def with_constants(folder: str) -> list[str]:
    """Called where torch is: the state of a model with a buffer that is saved, and one that is not, as a mask."""
    import torch

    from parity.watching import watch

    model = small()
    model.register_buffer("scale", torch.ones(3))
    model.register_buffer("mask", torch.ones(3), persistent=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watch(Path(folder, "run"), model, optimizer) as run:
        x, y = batches()[0]
        run.step(lambda: entropy(model(x) * model.scale * model.mask, y))
    return sorted(read(Path(folder, "run")).params)


@pytest.mark.asks(question=with_constants, framework="torch")
def test_a_buffer_that_is_not_saved_is_no_state(answer: list[str]) -> None:
    assert list(answer) == ["0.bias", "0.weight", "3.bias", "3.weight", "scale"]
