"""Building a TensorRT plan where TensorRT is installed: thin, because an engine must be built on the board itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from exports.errors import ExportError
from exports.profiles import DeviceProfile
from search_spaces._common.files import atomic_path


def build_engine(
    onnx_path: Path,
    plan_path: Path,
    precision: str = "fp16",
    *,
    profile: DeviceProfile | None = None,
    workspace_mb: int = 512,
) -> Path:
    """Build ``onnx_path`` into ``plan_path``; the plan runs only on this GPU model with this TensorRT.

    Args:
        precision: ``fp16`` or ``fp32``.
        profile: where the plan is meant to run; another TensorRT version here is refused.
        workspace_mb: memory that the builder's tactics may use, in MiB.

    Raises:
        ExportError: TensorRT is missing or another version, or it refuses the graph.
        ValueError: ``precision`` is neither of the two.
    """
    if precision not in ("fp16", "fp32"):
        raise ValueError(f"precision must be fp16 or fp32, not {precision!r}")
    trt = _import_tensorrt(onnx_path, plan_path, precision, workspace_mb)
    if profile is not None:
        check_version(trt.__version__, profile)
    builder = trt.Builder(trt.Logger(trt.Logger.ERROR))
    # explicit batch is a flag up to TensorRT 10 and the only way from 11 on
    explicit = getattr(trt.NetworkDefinitionCreationFlag, "EXPLICIT_BATCH", None)
    network = builder.create_network(0 if explicit is None else 1 << int(explicit))
    parser = trt.OnnxParser(network, trt.Logger(trt.Logger.ERROR))
    if not parser.parse(onnx_path.read_bytes()):
        reason = parser.get_error(0).desc() if parser.num_errors else "no reason given"
        raise ExportError(f"TensorRT {trt.__version__} cannot parse {onnx_path}: {reason}. Look at the lint findings.")
    config = builder.create_builder_config()
    if hasattr(config, "set_memory_pool_limit"):
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace_mb << 20)
    else:
        config.max_workspace_size = workspace_mb << 20
    if precision == "fp16":
        if not hasattr(trt.BuilderFlag, "FP16"):
            raise ExportError(
                f"TensorRT {trt.__version__} has no fp16 switch any more: it follows the file's own types. "
                "Choose precision fp32, or build with TensorRT 10 or older."
            )
        config.set_flag(trt.BuilderFlag.FP16)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise ExportError(f"TensorRT {trt.__version__} could not build {onnx_path} in {precision}. Try fp32.")
    with atomic_path(plan_path) as temporary:
        temporary.write_bytes(plan)
    return plan_path


def check_version(installed: str, profile: DeviceProfile) -> None:
    """Refuse to build with a TensorRT other than the target's (major and minor must be equal).

    Raises:
        ExportError: they differ, or the target has no TensorRT.
    """
    if profile.tensorrt_version is None:
        raise ExportError(f"{profile.name} runs ONNX files, not TensorRT plans. Use model.onnx there as it is.")
    wanted = ".".join(map(str, profile.tensorrt_version))
    if installed.split(".")[:2] != wanted.split("."):
        raise ExportError(
            f"a plan runs only with the TensorRT that built it: {profile.name} has {wanted}, here is {installed}. "
            f"Copy model.onnx to the board and build it there with trtexec."
        )


def trtexec_command(onnx_name: str, plan_name: str, precision: str, workspace_mb: int = 512) -> str:
    """The command that builds the same plan on a board (TensorRT 8: ``--workspace`` in MiB)."""
    flag = " --fp16" if precision == "fp16" else ""
    return f"trtexec --onnx={onnx_name}{flag} --workspace={workspace_mb} --saveEngine={plan_name}"


def _import_tensorrt(onnx_path: Path, plan_path: Path, precision: str, workspace_mb: int) -> Any:
    try:
        import tensorrt
    except ImportError as error:
        command = trtexec_command(onnx_path.name, plan_path.name, precision, workspace_mb)
        raise ExportError(
            f"building {plan_path.name} needs TensorRT, which is not installed here ({error}). Run `{command}` on the "
            "board, or `pip install 'paretoseg[tensorrt]'` on a machine with an NVIDIA GPU."
        ) from error
    return tensorrt
