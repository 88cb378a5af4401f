"""Loading networks: the one with shipped weights, TorchScript, ONNX, and saved small U-Nets.

Each loader imports what it needs when it is called, so that this module needs neither torch nor
onnxruntime. Files are never unpickled: state dictionaries go through torch's restricted reader,
TorchScript and ONNX carry no Python.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from hiersearch import _validate
from hiersearch.choices import ACTIVATIONS, Activation, Reading
from hiersearch.errors import FileFormatError, MissingExtraError, NetworkError
from hiersearch.networks.images import Float32
from hiersearch.networks.models import (
    CHECKPOINT_FORMAT,
    MODEL_FORMAT,
    MOST_WIDTHS,
    ModelHeader,
    parsed_header,
)
from hiersearch.networks.network import Network
from hiersearch.partitions.output import OBJECT_CHANNELS, Offsets, reading_kind
from hiersearch.partitions.torch_files import check_torchscript, is_torchscript, torch_content

if TYPE_CHECKING:
    from torch import nn

    from hiersearch.networks.unet import SmallUNet

TORCH_ENDINGS = (".pt", ".pth", ".ts")


def nuclei_network() -> Network:
    """Return the shipped network: background, interior and boundary of cell nuclei.

    Returns
    -------
    Network
        With softmax over the channels ``("background", "interior", "boundary")``. It takes grey
        and RGB images of any size, fluorescence as well as stained tissue, and often fuses nuclei
        that touch. Scores and provenance: ``weights/README.md``.

    Raises
    ------
    MissingExtraError
        If torch is not installed.

    Examples
    --------
    >>> from hiersearch.data import demo_image
    >>> nuclei_network()(demo_image()).shape
    (3, 288, 384)
    """
    weights = resources.files("hiersearch.networks") / "weights" / "nuclei.pt"
    with resources.as_file(weights) as path:
        model, _ = _torch_module(path)
    return Network(
        "nuclei", torch_runner(model), "softmax", channels=OBJECT_CHANNELS, reading="objects"
    )


def load_network(
    path: str | os.PathLike[str],
    *,
    reading: Reading | None = None,
    offsets: Offsets | None = None,
    activation: Activation | None = None,
    channels: Sequence[str] | None = None,
    input_channels: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    pad: int | None = None,
    name: str | None = None,
) -> Network:
    """Load a network for 2-D images from a file.

    The network is given float32 of shape (1, C, H, W), scaled to 0..1 (see
    :func:`~hiersearch.networks.images.image_batch`), then normalised by ``mean`` and ``std`` if
    given; it must answer (1, k, H, W) or (k, H, W) on the same grid. If it answers with several
    tensors, make it return only one when you export it.

    Parameters
    ----------
    path : path
        What `hiersearch train` wrote; TorchScript or the state dictionary of a
        :class:`~hiersearch.networks.unet.SmallUNet` (.pt, .pth, .ts); or ONNX (.onnx).
    reading : {"regions", "classes", "boundaries", "affinities", "objects"}, optional
        What the channels mean; what `hiersearch train` wrote says so itself. Without one the
        network can be called, and :meth:`Network.predict` asks for it.
    offsets : sequence of offsets, optional
        Of affinities; see :class:`~hiersearch.partitions.SoftOutput`.
    activation : {"softmax", "sigmoid", "none"}, optional
        What makes its output probabilities; "none" if it gives probabilities itself. Where
        omitted, what the file of `hiersearch train` says, or what is usual for ``reading``:
        softmax over channels that exclude each other (regions, classes, objects), else sigmoid.
    channels : sequence of str, optional
        What each output channel means; their number is then checked. Trained networks say so.
    input_channels : {1, 3}, optional
        What the network takes, if it is particular: images are converted. Where omitted, grey
        and RGB images are passed on as they are.
    mean, std : sequence of 1 or 3 float, optional
        Normalisation of the input channels after scaling to 0..1.
    pad : int, optional
        Extend images to sides that are multiples of it, and cut the output back: for networks that
        do not take every size; most that do not need 32. Trained networks see to it themselves.
    name : str, optional
        What messages call it; the file's name where omitted.

    Returns
    -------
    Network
        Ready to be called with images. A trained one knows its reading, too.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    FileFormatError
        If the file is none of these, is damaged, claims more than it holds, or would have to be
        unpickled.
    MissingExtraError
        If torch (or onnxruntime, for .onnx) is not installed.
    ValueError
        If an option is not one of its choices, is needed, or contradicts what the file says.

    Notes
    -----
    TorchScript and ONNX run programs that the file brings along. They cannot reach Python, but
    load them only from where you would install software.
    """
    file = Path(path)
    if activation is not None:
        _validate.checked_choice(activation, ACTIVATIONS, "activation")
    with file.open("rb"):  # a missing or forbidden file says so itself
        pass
    header: ModelHeader | None = None
    match file.suffix.lower():
        case ".onnx":
            run = _onnx_runner(file)
        case ending if ending in TORCH_ENDINGS:
            module, header = _torch_module(file)
            run = torch_runner(module)
        case _:
            _refuse(file, f"its name must end in {', '.join((*TORCH_ENDINGS, '.onnx'))}")
    names = None if channels is None else tuple(channels)
    steps = None if offsets is None else tuple(tuple(int(s) for s in step) for step in offsets)
    if header is not None:
        for what, given, own in (
            ("reading", reading, header.reading),
            ("offsets", steps, header.offsets),
            ("activation", activation, header.activation),
            ("channels", names, header.names),
        ):
            if given not in (None, own):
                raise ValueError(
                    f"{what} of {file} must be {own!r}, as the file says, got {given!r}"
                )
        activation, names = header.activation, header.names
        reading, steps = header.reading, header.offsets
    elif activation is None and reading is not None:
        activation = "softmax" if reading_kind(reading).exclusive else "sigmoid"
    if activation is None:
        raise ValueError(
            f"activation must be one of {', '.join(ACTIVATIONS)}, or reading be given, got None: "
            f"{file} does not say it"
        )
    return Network(
        name=name or file.name,
        run=run,
        activation=activation,
        channels=names,
        input_channels=input_channels,
        mean=None if mean is None else tuple(float(value) for value in mean),
        std=None if std is None else tuple(float(value) for value in std),
        pad=pad,
        reading=reading,
        offsets=steps,
    )


def trained_header(path: str | os.PathLike[str]) -> ModelHeader | None:
    """Return what a file says of its network, or None if it is not from `hiersearch train`.

    Raises
    ------
    FileNotFoundError, FileFormatError, MissingExtraError
        As `load_network`.
    """
    file = Path(path)
    with file.open("rb"):
        pass
    if file.suffix.lower() not in TORCH_ENDINGS or is_torchscript(file):
        return None
    return _trained(file, _torch_content(file))[1]


def _refuse(file: Path, reason: str, cause: BaseException | None = None) -> NoReturn:
    raise FileFormatError(f"cannot load {file} as a network: {reason}.") from cause


# --- torch --------------------------------------------------------------------------------


def _torch_module(file: Path) -> tuple[nn.Module, ModelHeader | None]:
    """Return the module in a file, in evaluation mode, and what a trained one says of itself."""
    torch = _torch(file)
    module: nn.Module
    header: ModelHeader | None = None
    if is_torchscript(file):
        try:
            check_torchscript(file)
            with warnings.catch_warnings():
                # That TorchScript is deprecated is no concern of who was given such a file.
                warnings.simplefilter("ignore")
                module = torch.jit.load(str(file), map_location="cpu")
        except Exception as error:  # RuntimeError, but damaged archives raise others too
            _refuse(file, "its TorchScript is damaged", error)
    else:
        state, header = _trained(file, _torch_content(file))
        unet = _unet_from_state(file, state)
        if header is not None and unet.classes != len(header.names):
            _refuse(file, f"it names {len(header.names)} channels, and has {unet.classes}")
        module = unet
    return module.eval(), header


def _torch(file: Path) -> Any:
    try:
        import torch
    except ImportError as error:
        raise MissingExtraError("torch", "torch", f"Loading {file.name}") from error
    return torch


def _torch_content(file: Path) -> Any:
    """Read a file of tensors and plain values."""
    _torch(file)
    try:
        return torch_content(file)
    except ValueError as error:
        _refuse(file, f"it is not TorchScript, and as a state dictionary {error}", error)


def _trained(file: Path, content: Any) -> tuple[Any, ModelHeader | None]:
    """Return the state dictionary of a trained network and its header; others as they are."""
    form = content.get("format") if isinstance(content, dict) else None
    if form == CHECKPOINT_FORMAT:
        _refuse(file, "it is a checkpoint of a training: give the network that the training writes")
    if form != MODEL_FORMAT:
        return content, None
    try:
        header = parsed_header(content)
    except Exception as error:  # ValueError; but a crafted file may hold anything anywhere
        _refuse(file, str(error) or type(error).__name__, error)
    return content.get("state"), header


def _unet_from_state(file: Path, state: Any) -> SmallUNet:
    """Build the small U-Net whose widths and classes a state dictionary implies."""
    import torch

    from hiersearch.networks.unet import SmallUNet

    reason = "it is not the state dictionary of a SmallUNet (save other networks as TorchScript)"
    if isinstance(state, torch.Tensor):
        _refuse(file, "it holds a tensor: a soft output is no network")
    if not isinstance(state, dict) or not all(isinstance(v, torch.Tensor) for v in state.values()):
        _refuse(file, reason)
    widths: list[int] = []
    while (weight := state.get(f"down.{len(widths)}.0.weight")) is not None:
        widths.append(len(weight) if weight.dim() else 0)
    head = state.get("head.weight")
    if not widths or min(widths) < 1 or head is None or head.dim() != 4 or len(head) < 1:
        _refuse(file, reason)
    if len(widths) > MOST_WIDTHS:
        _refuse(
            file, f"it must halve images at most {MOST_WIDTHS - 1} times, got {len(widths) - 1}"
        )
    try:
        # Shapes first, without memory: a file may claim any, and hold nothing of them.
        with torch.device("meta"):
            expected = SmallUNet(classes=len(head), widths=widths).state_dict()
        shapes, own = (
            {name: (value.shape, value.is_floating_point()) for name, value in values.items()}
            for values in (expected, state)
        )
        if own != shapes:
            _refuse(file, reason)
        network = SmallUNet(classes=len(head), widths=widths)
        network.load_state_dict(state)
        broken = [name for name, value in state.items() if not torch.isfinite(value).all()]
    except FileFormatError:
        raise
    except Exception as error:  # RuntimeError; but a crafted file may hold any kind of numbers
        _refuse(file, reason, error)
    if broken:
        _refuse(file, f"its weights {broken[0]} are not finite")
    return network


def torch_runner(module: nn.Module) -> Callable[[Float32], NDArray[Any]]:
    """Return a function on arrays that runs a module on the CPU, without gradients."""
    import torch

    def run(batch: Float32) -> NDArray[Any]:
        with torch.inference_mode():
            output = module(torch.from_numpy(batch))
        if not isinstance(output, torch.Tensor):
            raise NetworkError(
                f"it must return one tensor, got {type(output).__name__}: export it so that it "
                "returns its result alone"
            )
        # NumPy has no bfloat16. Whole numbers stay what they are, to be refused as such.
        plain = output.float() if output.is_floating_point() else output
        array: NDArray[Any] = plain.cpu().numpy()
        return array

    return run


# --- ONNX ---------------------------------------------------------------------------------


def _onnx_runner(file: Path) -> Callable[[Float32], NDArray[Any]]:
    """Return a function on arrays that runs an ONNX file on the CPU."""
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtraError("onnxruntime", "onnx", f"Loading {file.name}") from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # its errors reach the caller as exceptions, not on the screen
    try:
        session = onnxruntime.InferenceSession(
            str(file), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # its exceptions share no base class of their own
        _refuse(file, "it is not an ONNX model that onnxruntime can run", error)
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if len(inputs) != 1 or len(outputs) != 1:
        _refuse(
            file,
            f"it must have one input and one output, got {len(inputs)} and {len(outputs)}",
        )
    if inputs[0].type != "tensor(float)":
        _refuse(file, f"its input must be float32, got {inputs[0].type}")

    def run(batch: Float32) -> NDArray[Any]:
        return np.asarray(session.run(None, {inputs[0].name: batch})[0])

    return run
