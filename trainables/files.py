"""Names of input files: what a user may pass as --data, expanded to single files and URLs."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class DataSettings(BaseModel):
    """What every workload lets its user say about the data."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: tuple[str, ...] = Field(
        (), description="ROOT files, globs, folders, .list files (one path a line), root:// URLs; none: the carried sample"
    )
    holdout: tuple[str, ...] = Field(
        (), description="files of the holdout, which no trial sees; none: a part of the data, chosen by event content"
    )
    skip_bad_files: bool = Field(False, description="leave out files that cannot be read, and list them")
