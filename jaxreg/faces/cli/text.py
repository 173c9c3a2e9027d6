"""Tables of text: their encoding, delimiter and decimal comma, read by pandas."""

from __future__ import annotations

import csv
import gzip
import io
import re
import warnings
from dataclasses import dataclass

import pandas as pd

from jaxreg.data.output import UserError
from jaxreg.faces.cli.options import Reading

DELIMITERS = (";", "\t", "|", ",")  # of two that make as many fields, the first
SPACES = r"\s+"
NAMES = {";": "semicolons", "\t": "tabs", "|": "bars", ",": "commas", SPACES: "spaces"}
SAMPLE_LINES = 200
BYTE_ORDER_MARKS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16", b"\xef\xbb\xbf": "utf-8-sig"}


@dataclass(frozen=True)
class Dialect:
    """How a table is written.

    Attributes:
        encoding: of the text.
        delimiter: between fields.
        decimal: "." or ",".
    """

    encoding: str
    delimiter: str
    decimal: str

    def __str__(self) -> str:
        delimiter = NAMES.get(self.delimiter, repr(self.delimiter))
        point = {",": "decimal commas"}.get(self.decimal, "decimal points")
        return f"{delimiter} between fields, {point}, {self.encoding}"


def read_text(data: bytes, file: str, reading: Reading) -> tuple[pd.DataFrame, Dialect]:
    """The table of a text; columns that hold other things than numbers are of text.

    Raises:
        UserError: if it cannot be decoded, or is not a table with names in its first row.
    """
    text, encoding = _decoded(data, file, reading.encoding)
    preamble, text = _without_preamble(text)
    sample = [line for line in text[: 2**20].splitlines()[:SAMPLE_LINES] if line.strip()]
    if not sample:
        raise UserError(f"{file} is empty")
    delimiter = reading.delimiter or preamble.delimiter or _delimiter(sample)
    delimiter = {"\\t": "\t", "tab": "\t", "space": SPACES}.get(delimiter, delimiter)
    decimal = reading.decimal or _decimal(sample, delimiter)
    if decimal not in (".", ","):
        raise UserError(f"--decimal is . or , and not {decimal}")
    dialect = Dialect(encoding, delimiter, decimal)
    table = _parsed(text, file, dialect, reading.missing, preamble.lines)
    names = [str(name) for name in table.columns]
    if all(_is_number(name) for name in names):
        raise UserError(f"the first row of {file} holds numbers; it must hold the names of the columns")
    if len(names) < 2:
        raise UserError(
            f"{file} has one column, {names[0]!r}: pass --delimiter if its fields are not separated by "
            "commas, semicolons, tabs, bars or spaces"
        )
    return table.set_axis(names, axis=1), dialect


def _decoded(data: bytes, file: str, encoding: str | None) -> tuple[str, str]:
    data = gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data
    marked = next((name for mark, name in BYTE_ORDER_MARKS.items() if data.startswith(mark)), "utf-8")
    encoding = encoding or marked
    try:
        return data.decode(encoding), encoding
    except LookupError:
        raise UserError(
            f"there is no --encoding {encoding}; utf-8, latin-1, cp1252 and utf-16 are some"
        ) from None
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        value = f"byte 0x{data[error.start]:02x} in line {line}"
        raise UserError(
            f"{file} is not {encoding} text ({value}): pass its --encoding, such as latin-1 or cp1252"
        ) from None


@dataclass(frozen=True)
class Preamble:
    """What stands before the names of the columns.

    Attributes:
        lines: so many.
        delimiter: that of a line such as "sep=;", which Excel writes.
    """

    lines: int
    delimiter: str | None


def _without_preamble(text: str) -> tuple[Preamble, str]:
    """The text from the names of the columns on.

    These follow comments, which begin with "#". If numbers do, the names are the last comment, as NumPy
    writes it.
    """
    start, lines, comment, delimiter = 0, 0, "", None
    while start < len(text):
        end = text.find("\n", start) + 1 or len(text)
        line = text[start:end].strip()
        if line.startswith("#"):
            comment = re.sub(r"^#+\s*(?=[^\s;,|])", "", line)
        elif re.fullmatch(r"sep=.", line):
            delimiter = line[-1]
        elif line:
            break
        start, lines = end, lines + 1
    rest = text[start:]
    names, fields = (re.split(r"[\s;,|]+", row) for row in (comment, rest.partition("\n")[0].strip()))
    are_numbers = [_is_number(field) for field in fields]
    if comment and (all(are_numbers) or (any(are_numbers) and len(names) == len(fields))):
        return Preamble(lines - 1, delimiter), f"{comment}\n{rest}"
    return Preamble(lines, delimiter), rest


def _delimiter(sample: list[str]) -> str:
    """The delimiter that makes most fields in the header and as many in the row after it."""

    def fields(delimiter: str) -> int:
        rows = list(csv.reader(sample[:2], delimiter=delimiter, skipinitialspace=True))
        header, first = len(rows[0]), len(rows[-1])
        return header if first >= header else 1

    best = max(DELIMITERS, key=fields)
    return SPACES if fields(best) == 1 and len(sample[0].split()) > 1 else best


def _decimal(sample: list[str], delimiter: str) -> str:
    """A comma if more columns are of numbers with it."""

    def numeric(decimal: str) -> int:
        try:
            table = pd.read_csv(
                io.StringIO("\n".join(sample)), sep=delimiter, decimal=decimal, on_bad_lines="skip"
            )
        except (ValueError, pd.errors.ParserError):
            return 0
        return sum(dtype.kind in "fiu" for dtype in table.dtypes if hasattr(dtype, "kind"))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return "," if numeric(",") > numeric(".") else "."


def _parsed(
    text: str, file: str, dialect: Dialect, missing: tuple[str, ...], lines_before: int
) -> pd.DataFrame:
    """The table, whose index counts from the lines before it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            table = pd.read_csv(
                io.StringIO(text),
                sep=dialect.delimiter,
                decimal=dialect.decimal,
                na_values=list(missing),
                skipinitialspace=True,
                index_col=False,
                skip_blank_lines=False,
            )
        return table.set_axis(range(lines_before, lines_before + len(table)))
    except (ValueError, pd.errors.ParserError, pd.errors.ParserWarning) as error:
        message = str(error)
    uneven = re.search(r"Expected (\d+) fields in line (\d+), saw (\d+)", message)
    advice = (
        "a number with a decimal comma counts as two fields unless it is quoted, or --delimiter is another"
    )
    if uneven:
        width, row, found = uneven.groups()
        raise UserError(
            f"row {int(row) + lines_before} of {file} has {found} fields and the header {width}; {advice}"
        )
    if "Length of header" in message:
        raise UserError(f"rows of {file} have more fields than the header; {advice}")
    between = NAMES.get(dialect.delimiter, repr(dialect.delimiter))
    raise UserError(f"{file} is not a table with {between} between its fields ({message})")


def _is_number(name: str) -> bool:
    try:
        float(name.replace(",", "."))
    except ValueError:
        return False
    return True
