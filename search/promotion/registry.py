"""A workload's entry in MLflow's model registry: versions, the champion, what it was before, uses of the holdout."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from tempfile import TemporaryDirectory
from typing import Literal

import mlflow
from mlflow.entities.model_registry import ModelVersion

from search.config.redaction import first_line, without_passwords
from search.engine.upstream_models import CHAMPION
from search.errors import TrackingError, UsageError
from search.promotion.mlflow_model import PACKAGE, save_model
from search.tracking.client import MlflowClient, MlflowException
from trainables.export.package import Package

State = Literal["pending", "champion", "lost", "rolled back"]
NONE = "none"  # champion before the first one
_ABSENT = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")  # what MLflow calls a model or alias that is not there
_MODEL = "model"  # folder of a run's artifacts
_PAGE = 200


@dataclass(frozen=True)
class Version:
    """One promoted model."""

    number: int
    run_id: str
    source: str  # where its files are
    created_ms: int
    tags: Mapping[str, str]

    @property
    def state(self) -> str:
        return self.tags.get("state", "")

    @property
    def against(self) -> str:
        """Number of the version that was the champion when it was compared."""
        return self.tags.get("against", NONE)


class Registry:
    """The registered model of the workload's name. All methods raise TrackingError where MLflow does not play along."""

    def __init__(self, client: MlflowClient, workload: str) -> None:
        self._client, self._name = client, workload

    @property
    def name(self) -> str:
        return self._name

    @property
    def where(self) -> str:
        """URI for those who load models from here; with no password."""
        return without_passwords(str(self._client.tracking_uri))

    def champion(self) -> Version | None:
        """The version that is in use."""
        with self._asked():
            try:
                return _version(self._client.get_model_version_by_alias(self._name, CHAMPION))
            except MlflowException as error:
                if error.error_code not in _ABSENT:
                    raise
                return None

    def versions(self) -> list[Version]:
        """All, the oldest first."""
        found: list[Version] = []
        page = None
        with self._asked():
            while True:
                answer = self._client.search_model_versions(
                    f"name = '{self._name}'", max_results=_PAGE, page_token=page
                )
                found += [_version(version) for version in answer]
                page = answer.token
                if not page:
                    return sorted(found, key=lambda version: version.number)

    # --- the holdout

    def note_use(self, holdout: str, promotion: str, when: str) -> int:
        """Write down that a promotion has looked at a holdout; how many have by now, of whatever workload.

        The same one counts once. Models of the same events see one holdout, and each look of any of them wears it out.
        """
        prefix = f"holdout.{holdout[:12]}."
        with self._asked():
            self._make()
            self._client.set_registered_model_tag(self._name, prefix + promotion, when)
            return sum(name.startswith(prefix) for tags in self._tags_of_all() for name in tags)

    def _tags_of_all(self) -> Iterator[Mapping[str, str]]:
        """Of every registered model."""
        page = None
        while True:
            answer = self._client.search_registered_models(max_results=_PAGE, page_token=page)
            yield from (model.tags for model in answer)
            page = answer.token
            if not page:
                return

    # --- a new champion

    def register(self, package: Package, run_id: str, tags: Mapping[str, str], description: str) -> Version:
        """A new version: the package as an MLflow model that ``mlflow.pyfunc`` loads, an artifact of its training."""
        with self._asked(), TemporaryDirectory() as temporary:
            self._make()
            save_model(package, Path(temporary) / _MODEL)
            self._client.log_artifacts(run_id, str(Path(temporary) / _MODEL), _MODEL)
            source = f"{self._client.get_run(run_id).info.artifact_uri}/{_MODEL}"
            tags = {**tags, "package": package.digest, "state": "pending"}
            made = self._client.create_model_version(self._name, source, run_id, tags=tags, description=description)
        return _version(made)

    def set_champion(self, version: Version) -> Version | None:
        """Make a new version the champion; or tell which other one won against the same champion meanwhile.

        Numbers of versions are given by the registry one after another, and a version is there with its tags as soon
        as it has its number. So of all that were compared with the same champion exactly one is the first. One that
        has won is none any more where the champion of then has its alias back, by whatever hand. The alias is read
        after the states: whoever is found to have won had it before.
        """
        earlier = [one for one in self.versions() if one.number < version.number and one.against == version.against]
        holder = self.champion()
        unchanged = version.against == (str(holder.number) if holder else NONE)
        scalar_score = ("pending",) if unchanged else ("pending", "champion")
        rivals = [other for other in earlier if other.state in scalar_score]
        if rivals:
            self._set_state(version, "lost")
            return rivals[0]
        with self._asked():
            self._client.set_registered_model_alias(self._name, CHAMPION, str(version.number))
        self._set_state(version, "champion")
        return None

    def roll_back(self) -> tuple[Version, Version]:
        """Give the previous champion its place back; the version that goes, and the one that comes.

        Raises
        ------
        UsageError
            There is no champion, or none before it.
        """
        champion = self.champion()
        if champion is None:
            raise UsageError(f"There is no champion of {self._name}: nothing to roll back.")
        before = next((version for version in self.versions() if str(version.number) == champion.against), None)
        if before is None:
            raise UsageError(
                f"Version {champion.number} of {self._name} is its first champion: there is none to go back to."
            )
        with self._asked():
            self._client.set_registered_model_alias(self._name, CHAMPION, str(before.number))
        self._set_state(champion, "rolled back")
        return champion, before

    def fetch_package(self, version: Version, folder: Path) -> Path:
        """The package of a version, copied below this folder; not yet verified."""
        with self._asked():
            uri = str(self._client.tracking_uri)
            source = f"{version.source}/{PACKAGE}"
            return Path(mlflow.artifacts.download_artifacts(source, dst_path=str(folder), tracking_uri=uri))

    def log(self, run_id: str, files: Path, folder: str) -> None:
        """Add files to the run of a training."""
        with self._asked():
            self._client.log_artifacts(run_id, str(files), folder)

    def run_of(self, experiment_id: str, search: str, label: str, storage: str) -> str:
        """Id of the run of a trial of a search in that storage."""
        with self._asked():
            query = f"tags.search = '{search}' and attributes.run_name = '{label}'"
            found = self._client.search_runs([experiment_id], query, max_results=1)
        if not found:
            raise TrackingError(
                f"MLflow has no run {label!r} of {search!r}: was it away? Deliver it with: python -m search.run --sync "
                f"{search} --storage {quote(storage)}; then promote again."
            )
        return str(found[0].info.run_id)

    def _make(self) -> None:
        try:
            self._client.create_registered_model(self._name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    def _set_state(self, version: Version, state: State) -> None:
        with self._asked():
            self._client.set_model_version_tag(self._name, str(version.number), "state", state)

    @contextmanager
    def _asked(self) -> Iterator[None]:
        try:
            yield
        except (MlflowException, OSError) as error:
            raise TrackingError(
                f"The model registry at {self.where} refused: {first_line(error)}. What is trained is kept: the same "
                "command goes on from there."
            ) from error


def _version(found: ModelVersion) -> Version:
    return Version(
        number=int(found.version),
        run_id=str(found.run_id),
        source=str(found.source),
        created_ms=int(found.creation_timestamp or 0),
        tags=dict(found.tags),
    )
