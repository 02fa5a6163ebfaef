"""Read NumPy files within memory bounds, and bounds of products.

``np.load`` allocates what a header of 128 bytes asks for, so each header is first compared with the bytes in the file.
Formats: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html; an ``.npz`` is a ZIP archive of
``.npy`` files.
"""

from __future__ import annotations

import io
import math
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

MIN_BYTES = 64 << 20
"""Unpacked size that is allowed for any archive, bytes."""
MAX_RATIO = 20
"""Allowed compression ratio of a larger archive: trained weights hardly compress."""
MAX_MEMBERS = 10_000
FEW_ROWS = 32
"""Vectors up to which a product with a matrix is one of each: the queries that a server decides together.

From two vectors on BLAS splits a product of matrices among threads, which spin for longer than they compute: for 2, 4
and 8 queries that was 3, 1 and 0.3 ms of CPU time a query where each alone takes 0.02 ms. Nor does the score of a query
depend on the others of its batch."""
_KINDS = "fiubU"
"""Dtype kinds that are read: floats, integers, booleans and text, which is all that our files hold."""
_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def read_npy(path: Path, *, mmap_mode: Literal["r"] | None = None) -> NDArray[Any]:
    """Read an ``.npy`` file.

    Args:
        path: the file.
        mmap_mode: ``r`` maps it read-only; None reads it.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no such file, holds objects, or is of another length than its header claims.
    """
    with path.open("rb") as file:
        _check_header(file, path.stat().st_size)
    array: NDArray[Any] = np.load(path, mmap_mode=mmap_mode, allow_pickle=False)
    return array


def read_npz(source: Path | bytes) -> dict[str, NDArray[Any]]:
    """Read the arrays of an ``.npz`` archive by name.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no such archive, or unpacks to more than :data:`MIN_BYTES` and :data:`MAX_RATIO` times its
            size.
    """
    size = len(source) if isinstance(source, bytes) else source.stat().st_size
    try:
        with zipfile.ZipFile(io.BytesIO(source) if isinstance(source, bytes) else source) as archive:
            members = archive.infolist()
            _check_members(members, max(MIN_BYTES, MAX_RATIO * size))
            return {member.filename.removesuffix(".npy"): _read_member(archive, member) for member in members}
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, LookupError) as error:
        raise ValueError(f"not an archive of arrays ({error})") from error


def _check_members(members: list[zipfile.ZipInfo], most_bytes: int) -> None:
    names = {member.filename for member in members}
    if len(members) > MAX_MEMBERS or len(names) < len(members) or not all(name.endswith(".npy") for name in names):
        raise ValueError("not an archive of arrays, each with its own name")
    # Other methods, which NumPy never writes, take memory of their own to unpack.
    if any(member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for member in members):
        raise ValueError("compressed by another method than NumPy's")
    if sum(member.file_size for member in members) > most_bytes:
        raise ValueError(f"unpacks to more than {most_bytes >> 20} MiB")


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> NDArray[Any]:
    with archive.open(member) as stream:
        shape, is_fortran, dtype = _check_header(stream, member.file_size)
        # One byte more: the checksum is compared at the end of the member.
        content = stream.read(member.file_size + 1)
    values: NDArray[Any] = np.frombuffer(content, dtype, math.prod(shape))
    return values.reshape(shape, order="F" if is_fortran else "C")


def _check_header(stream: IO[bytes], size: int) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Return shape, Fortran order and dtype from an ``.npy`` header.

    The stream is at its start; the file has ``size`` bytes.

    Raises:
        ValueError: the header is malformed, or does not fit the size.
    """
    try:
        shape, is_fortran, dtype = _HEADERS[npy.read_magic(stream)](stream)
        fits = dtype.kind in _KINDS and dtype.itemsize and min(shape, default=0) >= 0
        needed_bytes = math.prod(shape) * dtype.itemsize + stream.tell()
    # A header is a Python literal: a malformed one raises exceptions of many classes.
    except Exception as error:
        raise ValueError(f"not an array of numbers ({type(error).__name__})") from error
    if dtype.hasobject:
        raise ValueError("it holds pickled objects, which are never loaded")
    if not fits or needed_bytes != size:
        raise ValueError(f"the header claims {needed_bytes:,} bytes of {dtype}, and there are {size:,} in all")
    return shape, is_fortran, dtype
