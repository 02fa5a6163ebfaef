from __future__ import annotations

import contextlib
import io
import resource
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.lib import format as npy

from semroute.arrays import MIN_BYTES, read_npy, read_npz


def npy_bytes(header: dict[str, Any], content: bytes) -> bytes:
    stream = io.BytesIO()
    npy.write_array_header_1_0(stream, header)
    return stream.getvalue() + content


def described(shape: tuple[int, ...], descr: str = "<f4") -> dict[str, Any]:
    return {"descr": descr, "fortran_order": False, "shape": shape}


def npz_bytes(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return stream.getvalue()


@pytest.mark.slow
@given(
    npst.arrays(st.sampled_from(["<f4", "<f8", "<f2", "<i8", "<u8", "?"]), npst.array_shapes(min_dims=0, min_side=0))
)
def test_arrays_come_back(array: np.ndarray[Any, Any]) -> None:
    stream = io.BytesIO()
    np.savez_compressed(stream, a=array, b=np.asfortranarray(array), c=np.array("text"))
    found = read_npz(stream.getvalue())
    for name in ("a", "b"):
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype
    assert str(found["c"]) == "text"


@pytest.mark.parametrize("mode", [None, "r"])
def test_a_file_comes_back_read_or_mapped(tmp_path: Path, mode: Any) -> None:
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    np.save(tmp_path / "a.npy", array)
    np.testing.assert_array_equal(read_npy(tmp_path / "a.npy", mmap_mode=mode), array)


BAD = [
    npy_bytes(described((1 << 40,)), b""),
    npy_bytes(described((1 << 31, 1 << 31, 1 << 31)), b"\0" * 16),
    npy_bytes(described((5,)), b"\0" * 16),
    npy_bytes(described((3,)), b"\0" * 16),
    npy_bytes(described((1 << 60,), "|V0"), b""),
    npy_bytes(described((1 << 60,), "<U0"), b""),
    npy_bytes(described((2,), "|O"), b"\x80\x04."),
    npy_bytes({"descr": [("a", "<f4")], "fortran_order": False, "shape": (1,)}, b"\0" * 4),
    b"\x93NUMPY\x01\x00\xff\xff{'descr': '<f4'",
    b"\x93NUMPY\x01\x00\x10\x00" + b"(" * 16,
    b"\x93NUMPY\x03\x00",
    b"\x93NUMPY",
    b"",
    b"\x80\x04K\x01.",
]


@pytest.mark.parametrize("content", BAD)
def test_an_array_shorter_than_its_header_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.npy"
    path.write_bytes(content)
    for mode in (None, "r"):
        with pytest.raises(ValueError, match=r"not an array of numbers|claims|pickled"):
            read_npy(path, mmap_mode=mode)  # type: ignore[arg-type]  # both modes
    with pytest.raises(ValueError, match=r"not an array of numbers|claims|pickled"):
        read_npz(npz_bytes({"a": content}))


@pytest.mark.slow
def test_an_archive_that_unpacks_to_gigabytes_is_refused_unread() -> None:
    zeros = npy_bytes(described((MIN_BYTES // 4,)), b"\0" * MIN_BYTES)
    bomb = npz_bytes({"a": zeros})
    assert len(bomb) < 200_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match="unpacks to more than 64 MiB"):
        read_npz(bomb)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # kB


def test_a_false_size_does_not_unpack_more_than_declared() -> None:
    raw = npz_bytes({"a": npy_bytes(described((100,)), b"\0" * 400)})
    small = (128 + 400).to_bytes(4, "little")
    assert raw.count(small) >= 2
    with pytest.raises(ValueError, match=r"not an a|claims"):
        read_npz(raw.replace(small, (200).to_bytes(4, "little")))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04 cut off",
        npz_bytes({"a": npy_bytes(described((1,)), b"\0" * 4)}, zipfile.ZIP_LZMA),
        npz_bytes({"a": npy_bytes(described((1,)), b"\0" * 4)}, zipfile.ZIP_BZIP2),
        npz_bytes({"a": npy_bytes(described((1,)), b"\0" * 4)})[:-30],
    ],
)
def test_files_other_than_numpy_archives_are_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"not an archive|another method"):
        read_npz(content)


def test_members_of_the_same_name_or_another_kind_are_refused() -> None:
    stream = io.BytesIO()
    array = npy_bytes(described((1,)), b"\0" * 4)
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a.npy", array)
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("a.npy", array)
    with pytest.raises(ValueError, match="each with its own name"):
        read_npz(stream.getvalue())


@pytest.mark.slow
@given(st.integers(0, 10_000), st.binary(min_size=1, max_size=4))
def test_a_damaged_archive_is_a_value_error(place: int, change: bytes) -> None:
    stream = io.BytesIO()
    np.savez_compressed(stream, a=np.arange(50.0), b=np.zeros((3, 3)))
    raw = bytearray(stream.getvalue())
    start = place % len(raw)
    raw[start : start + len(change)] = change
    with contextlib.suppress(ValueError):
        read_npz(bytes(raw))
