"""`jaxreg.xarray.fit_to_zarr`: fits of arrays larger than memory, from a lazy array to a Zarr store."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from jaxreg.data.resumable import Resumable, resumable
from jaxreg.engine.blocks import with_progress_bar
from jaxreg.faces.xarray.fits import fit
from jaxreg.faces.xarray.identity import Region, description_of, text_of
from jaxreg.faces.xarray.model import check_y

BLOCK_BYTES = 2**27  # of a block that is read
WORKERS = 2  # blocks that are read or fitted at a time, while others are written

FitBlock = Callable[[Region], xr.Dataset]


def fit_to_zarr(
    y: Any,
    dim: str,
    path: str | Path,
    x: Any = None,
    *,
    share: tuple[int, int] = (0, 1),
    progress: bool = False,
    **options: Any,
) -> xr.Dataset | None:
    """`jaxreg.xarray.fit` of an array that may be larger than memory, block by block into a Zarr store.

    A block has all of `dim`, and whole chunks of y along the other dimensions, up to 128 MB or one chunk.
    While blocks are fitted others are read and written. An interrupted run, by an error, Ctrl-C, a full disk
    or the death of its process, keeps its blocks in the folder `path.partial`; the same call then continues
    after the last whole one, to the same bits. `path` appears when all blocks are written.

    Several processes that share a disk may each do a share, such as `(jax.process_index(),
    jax.process_count())` or those of an array of jobs. They need not know of each other: the one that ends
    last moves the store to `path`, and one that was lost is run again.

    Args:
        y: a lazy array, as `xr.open_zarr`, `xr.open_dataset` and dask make them; others work, too.
        dim: the dimension of the observations. If y is in several chunks along it, all of them are read for
            each block.
        path: the Zarr store to write, of format 2; results that are there are replaced at the end.
        x: as for `fit`.
        share: (k, n): this process does the blocks k, k + n, k + 2n, …
        progress: whether to show a progress bar over the blocks.
        options: as for `fit`.

    Returns:
        The results as a lazy Dataset, in the layout of `fit`; None while blocks of other shares are missing,
        and for a share without blocks.

    Raises:
        ValueError: if an interrupted run to the same path had other data or options; it says which. Data are
            taken for the same if their name, sizes, dtype, attributes and coordinates are, the values of the
            first, the middle and the last block, and the size and date of a netCDF file.
        RuntimeError: if another process is writing the same share of the same path.
        OSError: if blocks cannot be read or written, or what is at `path` is no result of this function.

    >>> import tempfile
    >>> from jaxreg.datasets import pacific_sst
    >>> sst = pacific_sst().sst.chunk({"lat": 10})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     trend = fit_to_zarr(sst, "year", f"{folder}/trend.zarr").load()
    >>> print(trend.params.sizes)
    Frozen({'param': 2, 'lat': 18, 'lon': 30})
    """
    path, zarr = Path(path), _zarr()
    _check_path(path)
    if isinstance(y, xr.Dataset):
        raise TypeError(f"y is one DataArray; pass a variable of the Dataset, of {', '.join(map(str, y))}")
    check_y(y, dim)
    loops = [name for name in y.dims if name != dim]
    if not loops:
        raise ValueError(f"y has no dimension beside {dim!r}, so there are no blocks: use fit")
    if y.size == 0:
        raise ValueError(f"y is empty: it has the sizes {text_of(y.sizes)}")
    if not 0 <= share[0] < share[1]:
        raise ValueError(f"share is (k, n) with 0 ≤ k < n, got {share}")
    shape = block_shape(y, dim, min(BLOCK_BYTES, y.nbytes // share[1]))
    x = _of_arrays(lambda a: a.compute() if a.ndim == 1 else a, x)  # needed by every block
    y = y.assign_coords({name: a.compute() for name, a in y.coords.items() if a.ndim == 1 and a.chunks})
    lazy = fit(y.chunk({**shape, dim: -1}), dim, x, **options)
    lazy = lazy.assign_coords({name: a.compute() for name, a in lazy.coords.items() if a.chunks})
    lazy = lazy.drop_encoding()  # of the file of y, such as codecs of another format
    regions = regions_of(y, shape)
    if share[0] >= len(regions):
        return None
    description = description_of(y, dim, x, regions, options)
    begin = partial(lazy.to_zarr, compute=False, zarr_format=2, consolidated=False)
    with resumable(path, description, begin, share) as work:
        done = work.done(lambda block: checksum(_open(work.results).isel(regions[block])))
        _fit_blocks(work, partial(_fit_block, y, dim, x, options), regions, done, progress)
        is_there = work.finish(len(regions), partial(zarr.consolidate_metadata, zarr_format=2))
    return xr.open_zarr(path) if is_there else None


def _check_path(path: Path) -> None:
    """Raise, before any work is done, unless a store can be written there without loss of other files."""
    if not path.parent.is_dir():
        raise FileNotFoundError(f"cannot write {path.name}: there is no folder {path.parent}")
    if path.exists() and not _holds_results(path):
        raise FileExistsError(f"{path} holds no results of jaxreg, and is not replaced; pass another path")


def _holds_results(path: Path) -> bool:
    import zarr

    try:
        return zarr.open_group(path, mode="r").attrs.get("source") == "jaxreg"
    except (OSError, ValueError):
        return False


def _zarr() -> Any:
    """The module zarr, if all that is needed is installed."""
    missing = [name for name in ("dask", "filelock", "zarr") if find_spec(name) is None]
    if missing:
        raise ModuleNotFoundError(
            f'fit_to_zarr needs {", ".join(missing)}: python -m pip install "jaxreg[stores]"'
        )
    import zarr

    return zarr


def block_shape(y: xr.DataArray, dim: str, limit: int) -> dict[Any, int]:
    """The lengths of a block along the dimensions of the data sets: whole chunks, up to so many bytes."""
    chunks = {name: sizes[0] for name, sizes in y.chunksizes.items()}
    chunks = chunks or y.encoding.get("preferred_chunks", {})
    shape = {name: min(size, chunks.get(name, 1)) for name, size in y.sizes.items() if name != dim}
    for name in reversed(shape):  # the last dimension first, whose values lie beside each other
        size = y.sizes[dim] * y.dtype.itemsize * int(np.prod(list(shape.values())))
        shape[name] = min(y.sizes[name], shape[name] * max(1, limit // size))
    return shape


def regions_of(y: xr.DataArray, shape: dict[Any, int]) -> list[Region]:
    """The blocks of y."""
    starts = itertools.product(*(range(0, y.sizes[name], step) for name, step in shape.items()))
    return [
        {
            name: slice(i, min(i + step, y.sizes[name]))
            for i, (name, step) in zip(start, shape.items(), strict=True)
        }
        for start in starts
    ]


def checksum(results: xr.Dataset) -> str:
    """Of the bits of all results."""
    total = 0
    for name in sorted(map(str, results.data_vars)):
        total = zlib.crc32(results[name].values.tobytes(), total)
    return f"{total:08x}"


def _fit_block(y: xr.DataArray, dim: str, x: Any, options: dict[str, Any], region: Region) -> xr.Dataset:
    """The fit of a block, which is read first: as one lazy graph it would take a third longer."""

    def read(a: xr.DataArray) -> xr.DataArray:
        return a.isel({name: cut for name, cut in region.items() if name in a.dims}).compute()

    own = {name: _of_arrays(read, value) if name == "weights" else value for name, value in options.items()}
    return fit(read(y), dim, _of_arrays(read, x), **own)


def _of_arrays(function: Callable[[xr.DataArray], Any], tree: Any) -> Any:
    """A function of the DataArrays in x, which may be a list or a mapping of them, or a name."""
    if isinstance(tree, xr.DataArray):
        return function(tree)
    if isinstance(tree, Mapping):
        return {name: _of_arrays(function, a) for name, a in tree.items()}
    return [_of_arrays(function, a) for a in tree] if isinstance(tree, list | tuple) else tree


def _fit_blocks(
    work: Resumable, fit_block: FitBlock, regions: list[Region], done: set[int], progress: bool
) -> None:
    """Fit and write the blocks that are not done."""
    first, step = work.share
    missing = [block for block in range(first, len(regions), step) if block not in done]

    with ThreadPoolExecutor(WORKERS, thread_name_prefix="jaxreg") as pool:
        loaded = _in_order(pool, lambda block: fit_block(regions[block]), missing)
        for block, results in with_progress_bar(loaded, len(missing), progress):
            results.drop_vars(list(results.coords)).to_zarr(
                work.results, region=regions[block], consolidated=False, zarr_format=2
            )
            work.record(block, checksum(results))


def _in_order(pool: ThreadPoolExecutor, load: Any, blocks: list[int]) -> Iterator[tuple[int, xr.Dataset]]:
    """Each block with its results; WORKERS of them are loaded at a time, and as many wait at most."""
    waiting: list[tuple[int, Future[xr.Dataset]]] = []
    try:
        for block in blocks:
            waiting.append((block, pool.submit(load, block)))
            if len(waiting) > WORKERS:
                first, result = waiting.pop(0)
                yield first, result.result()
        for first, result in waiting:
            yield first, result.result()
    finally:
        for _, result in waiting:
            result.cancel()


def _open(path: Path) -> xr.Dataset:
    return xr.open_zarr(path, consolidated=False, zarr_format=2)
