"""Import of labelled data as category files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from semroute.data.examples import Finding
from semroute.data.importing.records import ImportOptions
from semroute.data.importing.writing import Gathered, Written, gather, plan_files, write_categories


@dataclass(frozen=True, slots=True)
class ImportResult:
    """Labelled data that was converted.

    Attributes:
        source: the file or folder.
        out: folder of the category files.
        is_written: False for a dry run.
        gathered: categories with their examples, and findings.
        files: files by category, and those of others in the folder.
    """

    source: Path
    out: Path
    is_written: bool
    gathered: Gathered
    files: Written

    def to_dict(self) -> dict[str, object]:
        """Return JSON-ready values."""
        of = self.gathered
        return {
            "source": str(self.source),
            "out": str(self.out),
            "written": self.is_written,
            "rows": of.rows,
            "examples": of.examples,
            "duplicates": of.duplicates,
            "shared": of.shared,
            "categories": {
                category.name: {"examples": len(category.examples), "file": str(self.files.files[category.name])}
                for category in of.categories
            },
            "guesses": _findings(of.guesses),
            "skipped": _findings(of.skipped),
            "warnings": _findings(of.warnings),
            "others": [str(path) for path in self.files.others],
        }


def _findings(found: tuple[Finding, ...]) -> list[dict[str, object]]:
    return [{"message": one.message, "path": str(one.path), "line": one.line} for one in found]


def import_labelled_data(
    source: Path,
    out: Path = Path("categories"),
    options: ImportOptions | None = None,
    *,
    force: bool = False,
    write: bool = True,
) -> ImportResult:
    """Convert labelled data to a category file for each label.

    Args:
        source: file or folder of labelled texts.
        out: folder for the category files.
        options: names of columns and the like; None guesses.
        force: whether existing category files are replaced.
        write: False only plans the files.

    Raises:
        DataError: the data cannot be read, or a file exists already.
        MissingExtraError: a Parquet file needs the extra "parquet".
    """
    gathered = gather(source, options or ImportOptions())
    files = (write_categories if write else plan_files)(gathered.categories, out, force=force)
    return ImportResult(source, out, write, gathered, files)
