"""Which format a file has, by its first bytes and its name."""

from __future__ import annotations

from pathlib import Path

from jaxreg.data.output import UserError

NAMES = {
    "netcdf": "a netCDF file",
    "zarr": "a Zarr store",
    "npz": "an .npz file",
    "npy": "an .npy file",
    "parquet": "a Parquet file",
    "text": "text",
}
FIRST_BYTES = {
    b"CDF": "netcdf",
    b"\x89HDF": "netcdf",
    b"PAR1": "parquet",
    b"\x93NUMPY": "npy",
    b"PK\x03\x04": "npz",
    b"PK\x05\x06": "npz",
    b"\x1f\x8b": "text",  # compressed by gzip
}
SUFFIXES = {
    **dict.fromkeys((".nc", ".nc4", ".cdf", ".h5"), "netcdf"),
    **dict.fromkeys((".csv", ".tsv", ".txt", ".dat", ".gz"), "text"),
    **{".zarr": "zarr", ".npz": "npz", ".npy": "npy", ".parquet": "parquet"},
}


def format_of(path: Path) -> str:
    """A key of `NAMES`.

    Raises:
        UserError: if there is no such file, or it is none of these.
    """
    if not path.exists():
        raise UserError(f"there is no file {path}")
    if path.is_dir():
        if any((path / name).exists() for name in ("zarr.json", ".zgroup", ".zmetadata")):
            return "zarr"
        raise UserError(f"{path} is a folder, and not a Zarr store of a data set")
    with path.open("rb") as file:
        head = file.read(64)
    if not head:
        raise UserError(f"{path} is empty")
    for first, name in FIRST_BYTES.items():
        if head.startswith(first):
            return name
    named = SUFFIXES.get(path.suffix.lower())
    is_binary = b"\0" in head and not head.startswith((b"\xff\xfe", b"\xfe\xff"))
    if named == "text" and not is_binary:
        return "text"
    known = "a netCDF, Zarr, .npz, .npy, Parquet or CSV file" if named in (None, "text") else NAMES[named]
    begins = "binary data" if is_binary else f"text that begins with {_excerpt(head)!r}"
    advice = "" if is_binary else "; if it is a table, call it .csv"
    raise UserError(f"{path} is not {known}: it holds {begins}{advice}")


def _excerpt(head: bytes) -> str:
    return head.decode("utf-8", "replace").splitlines()[0][:24]
