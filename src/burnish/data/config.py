"""DataConfig: where the data is and how its rows are read, for configs and flags."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from burnish.data.formats import load_rows
from burnish.data.rows import Rows
from burnish.runs.config import Config


class DataConfig(Config):
    """The settings of `formats.load_rows`."""

    path: str = Field(description="a file (.jsonl, .json, .csv, also .gz; .parquet, .arrow), a folder, or a hub id owner/name[:config]")
    split: str | None = Field(None, description="the split, where there are several (default: train)")
    format: Literal["prompt", "prompt_completion", "messages", "text"] | None = Field(
        None, description="which columns count (default: detected)"
    )
    columns: dict[str, str] = Field({}, description="new column -> column or template, such as prompt: 'Q: {question}'")
    map: str | None = Field(None, description="function(row) -> row for every raw row, before columns: file.py:name or package.module:name")
    system: str | None = Field(None, description="a system message for every row that has none")
    as_messages: bool = Field(False, description="text prompts become user messages, text completions assistant messages")
    tools_column: str = Field("tools", description="the column with the tools of a row")
    bad_rows: Literal["refuse", "skip"] = Field("refuse", description="a bad row stops the run, or is left out, counted and reported")
    limit: int | None = Field(None, ge=1, description="read only the first rows")

    def load(self, source: Any = None) -> Rows:
        """The rows of `path`, or of an object given in its place."""
        return load_rows(
            self.path if source is None else source,
            self.columns,
            self.split,
            format=self.format,
            system=self.system,
            as_messages=self.as_messages,
            bad_rows=self.bad_rows,
            limit=self.limit,
            map=self.map,
            tools_column=self.tools_column,
        )
