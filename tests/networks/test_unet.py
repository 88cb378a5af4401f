import importlib
import sys

import pytest

torch = pytest.importorskip("torch")

from hiersearch.errors import MissingExtraError  # noqa: E402
from hiersearch.networks.unet import SmallUNet, standardise  # noqa: E402


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return SmallUNet().eval()


def test_it_is_small(network):
    assert sum(p.numel() for p in network.parameters()) < 500_000


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 3), (7, 8), (8, 8), (33, 50)])
@pytest.mark.parametrize("colours", [1, 3])
def test_every_size_and_both_colours_give_finite_logits_on_the_grid(network, size, colours):
    with torch.inference_mode():
        logits = network(torch.rand(1, colours, *size))
    assert logits.shape == (1, 3, *size)
    assert torch.isfinite(logits).all()


def test_brightness_and_contrast_do_not_matter(network):
    image = torch.rand(1, 1, 24, 24)
    with torch.inference_mode():
        torch.testing.assert_close(network(image), network(0.1 * image + 0.3), atol=1e-2, rtol=0)


def test_grey_is_colour_with_equal_channels(network):
    image = torch.rand(1, 1, 24, 24)
    with torch.inference_mode():
        torch.testing.assert_close(network(image), network(image.expand(-1, 3, -1, -1)))


def test_a_constant_image_becomes_zeros():
    assert torch.equal(standardise(torch.full((1, 1, 4, 4), 0.5)), torch.zeros(1, 3, 4, 4))


def test_images_of_a_batch_do_not_influence_each_other():
    images = torch.stack([torch.rand(1, 8, 8), 100 * torch.rand(1, 8, 8)])
    torch.testing.assert_close(standardise(images)[:1], standardise(images[:1]))


@pytest.mark.parametrize("shape", [(1, 2, 8, 8), (1, 4, 8, 8), (3, 8, 8)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match=r"images must have shape .* got \("):
        standardise(torch.zeros(shape))


def test_it_learns_to_tell_bright_from_dark():
    torch.manual_seed(0)
    network = SmallUNet(classes=2, widths=(4, 8)).train()
    optimiser = torch.optim.AdamW(network.parameters(), 0.03)
    images = (torch.rand(4, 1, 4, 4) > 0.5).float().repeat_interleave(4, 2).repeat_interleave(4, 3)
    for _ in range(20):
        loss = torch.nn.functional.cross_entropy(network(images), images[:, 0].long())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    right = (network.eval()(images).argmax(1) == images[:, 0]).float().mean()
    assert float(right) > 0.95


def test_torch_missing_is_said_in_one_sentence(monkeypatch):
    monkeypatch.delitem(sys.modules, "hiersearch.networks.unet")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError, match=r"needs torch, .*hiersearch\[torch\]"):
        importlib.import_module("hiersearch.networks.unet")
