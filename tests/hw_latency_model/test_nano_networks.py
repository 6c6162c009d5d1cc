"""Public networks as kernels: the iCAS convolutional networks, NAS-Bench-201 cells, and networks by name."""

from __future__ import annotations

import gzip

import pytest

from benchmarks.nano_prior.cells import cell_kernels, live_edges
from benchmarks.nano_prior.convnets import COLUMNS, convnet_kernels, mixed_sides, read_convnets
from benchmarks.nano_prior.networks import build_network
from benchmarks.nano_prior.published import PublishedNetworks, read_published
from hw_latency_model.kernels.extract import kernels_from_module
from search_spaces._common.errors import UserError


@pytest.mark.parametrize(
    ("options", "final"),
    [
        ({"depthwise": False, "layers": 2, "features": 64, "sides": [2, 2], "input_side": 50, "mixed": False}, 56),
        ({"depthwise": False, "layers": 3, "features": 64, "sides": [3, 3, 3], "input_side": 50, "mixed": False}, 50),
        ({"depthwise": False, "layers": 3, "features": 64, "sides": [1, 1, 1], "input_side": 50, "mixed": False}, 56),
        ({"depthwise": True, "layers": 10, "features": 128, "sides": [2] * 10, "input_side": 60, "mixed": False}, 90),
        ({"depthwise": True, "layers": 5, "features": 128, "sides": [5] * 5, "input_side": 30, "mixed": False}, 30),
        ({"depthwise": False, "layers": 2, "features": 64, "sides": [6, 7], "input_side": 85, "mixed": True}, 80),
        ({"depthwise": False, "layers": 2, "features": 64, "sides": [1, 3], "input_side": 100, "mixed": True}, 102),
    ],
)
def test_paddings_are_those_of_the_source(options, final):
    kernels = convnet_kernels(**options)
    assert kernels[-2].out_hw == (final, final)
    assert kernels[-1].in_channels == options["features"] * final * final
    assert len(kernels) == options["layers"] * (2 if options["depthwise"] else 1) + 1


def test_mixed_kernels_alternate_until_one_is_used_up():
    assert mixed_sides(3, 3, 2, 2) == [3, 2, 3, 2, 3]
    assert mixed_sides(5, 2, 0, 0) == [5, 5]


def write_table(path, rows):
    lines = [",".join(COLUMNS), *(",".join(str(value) for value in row) for row in rows)]
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    return path


ROW = ["a", "n", 0, 2, 8, 3, 2, 0, 0, 10, 10, 88810, 5.0, 5.1]


def test_rows_that_disagree_or_do_not_decode_are_counted_not_believed(tmp_path):
    bad_side = [*ROW[:10], 11, *ROW[11:]]
    unsure = [*ROW[:13], 9.0]
    data = read_convnets(write_table(tmp_path / "t.csv.gz", [ROW, bad_side, unsure]))
    assert (len(data.networks), data.disagreeing, data.undecodable) == (1, 1, 1)
    assert data.networks[0].latency_ms == pytest.approx((5.0 * 5.1) ** 0.5)


def test_a_table_of_another_form_is_refused_with_the_missing_column(tmp_path):
    (tmp_path / "t.csv").write_text("campaign,name\na,b\n")
    with pytest.raises(UserError, match="dws"):
        read_convnets(tmp_path / "t.csv")
    with pytest.raises(UserError, match="nowhere"):
        read_convnets(tmp_path / "nowhere.csv")


def test_every_network_of_the_public_file_decodes(shared_dir):
    data = read_convnets(shared_dir / "latency_data" / "nano_fp32_convnets.csv.gz")
    assert data.undecodable == 0
    assert len(data.networks) > 12_000
    assert data.disagreeing < 500


CONV3 = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|nor_conv_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|"


def test_a_cell_of_convolutions_has_the_kernels_of_its_network():
    kernels = cell_kernels(CONV3)
    convolutions = [kernel for kernel in kernels if kernel.macs and kernel.kind != "gemm"]
    assert len(convolutions) == 1 + 15 * 6 + 2 * 3
    assert sum(kernel.macs for kernel in kernels) == pytest.approx(220e6, rel=0.02)


def test_what_does_not_reach_the_output_is_dropped():
    dead = "|nor_conv_3x3~0|+|none~0|none~1|+|skip_connect~0|none~1|nor_conv_3x3~2|"
    assert live_edges(dead) == {3: [("skip_connect", 0)]}
    assert cell_kernels("|nor_conv_3x3~0|+|nor_conv_3x3~0|none~1|+|none~0|none~1|none~2|") == []
    assert sum(kernel.macs for kernel in cell_kernels(dead)) < sum(kernel.macs for kernel in cell_kernels(CONV3)) / 5
    with pytest.raises(UserError, match="NAS-Bench-201"):
        live_edges("|a~0|")


@pytest.mark.parametrize(
    "names", [("resnet18", "ResNet-18"), ("mobilenet_v2", "MobileNetV2"), ("squeezenet1_1", "SqueezeNet1.1")]
)
def test_spelling_does_not_matter(names):
    first, second = (kernels_from_module(build_network(name), (64, 64), runtime="tensorrt") for name in names)
    assert first == second


@pytest.mark.parametrize(
    ("name", "gmacs"),
    [
        ("fcn-resnet18", 4.8),
        ("fast-scnn", 0.42),
        ("ERFNet", 6.6),
        ("unet", 96.0),
        ("deeplabv3+-mobilenetv2", 11.7),
        ("unet-resnet18", 11.2),
        ("pspnet", 13.1),
    ],
)
def test_segmentation_networks_have_their_published_size(name, gmacs):
    kernels = kernels_from_module(build_network(name), (256, 512), runtime="tensorrt")
    assert sum(kernel.macs for kernel in kernels) / 1e9 == pytest.approx(gmacs, rel=0.1)
    assert not [kernel.kind for kernel in kernels if kernel.kind.startswith("op:")]


def test_published_rows_say_why_they_cannot_be_predicted(tmp_path):
    path = tmp_path / "p.csv"
    path.write_text(
        "model,input_hxw,batch,precision,runtime,ms,fps,source\n"
        "resnet18,224x224,1,fp16,TensorRT,11.4,,lab\n"
        "resnet18,224x224,8,fp16,TensorRT,50,,same\n"
        "resnet18,224x224,1,int8,TensorRT,9,,same\n"
        "resnet18,large,1,fp16,TensorRT,9,,same\n"
        "nonet,224x224,1,fp16,TensorRT,,20,same\n"
    )
    rows = read_published(path)
    assert [row.status == "ok" for row in rows] == [True, False, False, False, True]
    assert {row.source for row in rows} == {"lab"}
    assert rows[4].latency_ms == pytest.approx(50.0)
    networks = PublishedNetworks()
    assert networks.kernels(rows[0])
    assert networks.kernels(rows[4]) == []
