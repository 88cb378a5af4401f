"""Leave doctests of torch-only modules out where torch, an extra, is not installed."""

import importlib.util

collect_ignore = []
if importlib.util.find_spec("torch") is None:
    collect_ignore += [
        f"hiersearch/networks/{name}.py" for name in ("unet", "loading", "crops", "training")
    ]
