"""Proposals by FAISS: likely neighbours from embeddings of the tiles' pair sums.

Proposals only set the first radius of a search; whatever they miss, the certificate finds. An
embedding is a fixed random projection of a middle level's pair sums, in which FAISS searches an
inverted file. Vectors and answers are checked here, since FAISS takes NaN and wrong dimensions
badly.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hiersearch.device.choice import Device
from hiersearch.errors import MissingExtraError
from hiersearch.index.bounds.packing import MIDDLE
from hiersearch.index.segments.view import View

DIMENSIONS = 48
"""Length of an embedding."""
PROBES = 8
"""Lists of the inverted file that a query looks into."""
_ROWS_AT_ONCE = 2**14
_TRAINING_ROWS = 2**16


def faiss_module() -> Any:
    """Import FAISS, or say which extra it comes with."""
    try:
        import faiss
    except ImportError:
        raise MissingExtraError("faiss", "faiss", 'proposals="faiss"') from None
    return faiss


class FaissProposer:
    """An inverted file over the embeddings of all rows of some views.

    Building it takes O(n · pairs · dimensions); it lives in memory, 200 bytes a row.
    """

    def __init__(self, views: Sequence[View]) -> None:
        faiss = faiss_module()
        self.views = tuple(views)
        pairs = views[0].arrays["middle"].shape[1]
        n_diagonal = views[0].frame.tiling.count(MIDDLE)
        weights = np.where(np.arange(pairs) < n_diagonal, 1.0, 2.0)
        # The seed is part of the method: equal indexes propose alike.
        random = np.random.default_rng(0).standard_normal((pairs, DIMENSIONS))
        self.projection: NDArray[np.float32] = (
            weights[:, None] * random / math.sqrt(DIMENSIONS) / 255
        ).astype(np.float32)
        self.begins = np.cumsum([0, *(view.n_entries for view in views)])
        n = int(self.begins[-1])
        lists = max(1, min(4096, int(math.sqrt(n))))
        quantizer = faiss.IndexFlatL2(DIMENSIONS)
        self.index = faiss.IndexIVFFlat(quantizer, DIMENSIONS, lists)
        # Kept alive: the index refers to it.
        self._quantizer = quantizer
        self._on_gpus: dict[str, tuple[Any, Any]] = {}
        self.index.train(self._sample(n))
        self.index.nprobe = min(PROBES, lists)
        for view in views:
            for begin in range(0, view.n_entries, _ROWS_AT_ONCE):
                self.index.add(self._embedded(view.arrays["middle"][begin : begin + _ROWS_AT_ONCE]))

    def _embedded(self, pairs: NDArray[Any]) -> NDArray[np.float32]:
        vectors = np.ascontiguousarray(pairs.astype(np.float32) @ self.projection)
        if vectors.shape[1] != DIMENSIONS or not np.isfinite(vectors).all():
            raise ValueError("pair sums must be finite to be embedded")
        return vectors

    def _sample(self, n: int) -> NDArray[np.float32]:
        chosen = np.random.default_rng(1).choice(n, min(n, _TRAINING_ROWS), replace=False)
        chosen.sort()
        parts = []
        for i, view in enumerate(self.views):
            mine = chosen[(self.begins[i] <= chosen) & (chosen < self.begins[i + 1])]
            parts.append(self._embedded(view.arrays["middle"][mine - self.begins[i]]))
        return np.concatenate(parts)

    def moved_to(self, device: Device) -> bool:
        """Copy the inverted file to a GPU if the installed FAISS can; say whether it is there."""
        faiss = faiss_module()
        if not device.is_gpu or not getattr(faiss, "get_num_gpus", int)():
            return False
        if device.name not in self._on_gpus:
            # Kept alive: the index on the GPU refers to them.
            resources = faiss.StandardGpuResources()
            moved = faiss.index_cpu_to_gpu(resources, device.torch.index, self.index)
            self._on_gpus[device.name] = resources, moved
        return True

    def propose_many(self, pairs: NDArray[Any], count: int, device: Device) -> NDArray[np.int64]:
        """Return likely neighbours of many queries, on a GPU that the index was moved to.

        Parameters
        ----------
        pairs : array, shape (queries, pairs)
            The queries' pair sums at the middle level, in units of a byte.
        count : int
            How many for each, at most.
        device : Device
            The GPU.

        Returns
        -------
        array, shape (queries, count)
            Rows, all views' one after the other; -1 stands for a neighbour that there is not.
        """
        _, found = self._on_gpus[device.name][1].search(self._embedded(pairs), count)
        return np.asarray(found, np.int64)

    def propose(self, pairs: NDArray[Any], count: int) -> list[tuple[int, NDArray[np.int32]]]:
        """Return likely neighbours as rows of views.

        Parameters
        ----------
        pairs : array, shape (pairs,)
            The query's pair sums at the middle level, in units of a byte.
        count : int
            How many, at most.
        """
        _, found = self.index.search(self._embedded(pairs[None, :]), count)
        # -1 stands for a neighbour that there is not.
        rows = np.sort(found[0][found[0] >= 0])
        answers = []
        for i in range(len(self.views)):
            mine = rows[(self.begins[i] <= rows) & (rows < self.begins[i + 1])]
            answers.append((i, (mine - self.begins[i]).astype(np.int32)))
        return answers
