"""Read and write a workload's model in the MLflow model registry: versions, the champion, uses of the holdout."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from tempfile import TemporaryDirectory
from typing import Literal

import mlflow

from search.config.redaction import first_line, without_passwords
from search.errors import TrackingError, UsageError
from search.promotion.load_check import require_loadable
from search.promotion.mlflow_model import PACKAGE, save_model
from search.tracking.artifact_location import find_problem
from search.tracking.client import CHAMPION, MlflowClient, MlflowException, ModelVersion, find_champion
from search.tracking.server_calls import RefusedError, UnavailableError
from trainables.export.package import Package

State = Literal["pending", "champion", "lost", "rolled back"]
NO_VERSION = "none"  # tag ``against`` of the first champion
_MODEL = "model"  # folder of a run's artifacts
_PAGE = 200


@dataclass(frozen=True)
class Version:
    """A version of a registered model, made by one promotion."""

    number: int
    run_id: str
    source: str  # URI of its files
    created_ms: int
    tags: Mapping[str, str]

    @property
    def state(self) -> str:
        return self.tags.get("state", "")

    @property
    def against(self) -> str:
        """Number of the version that was the champion when this one was compared with it."""
        return self.tags.get("against", NO_VERSION)


class Registry:
    """The registered model that has the workload's name. All methods raise TrackingError where MLflow fails."""

    def __init__(self, client: MlflowClient, workload: str) -> None:
        self._client, self._name = client, workload

    @property
    def name(self) -> str:
        return self._name

    @property
    def uri(self) -> str:
        """URI of the registry, without a password."""
        return without_passwords(str(self._client.tracking_uri))

    def champion(self) -> Version | None:
        """Return the version that has the alias."""
        with self._explaining_errors():
            found = find_champion(self._client, self._name)
        return _version(found) if found else None

    def versions(self) -> list[Version]:
        """Return all versions, the oldest first."""
        found: list[Version] = []
        page = None
        with self._explaining_errors():
            while True:
                answer = self._client.search_model_versions(
                    f"name = '{self._name}'", max_results=_PAGE, page_token=page
                )
                found += [_version(version) for version in answer]
                page = answer.token
                if not page:
                    return sorted(found, key=lambda version: version.number)

    # --- the holdout

    def record_use(self, holdout: str, promotion: str, when: str) -> int:
        """Record that a promotion used a holdout, and return how many promotions of all workloads have used it.

        A repeated promotion counts once. Workloads with the same events share a holdout. Uses are counted because each
        decision that depends on the holdout makes later scores on it less independent.
        """
        prefix = f"holdout.{holdout[:12]}."
        with self._explaining_errors():
            self._create_if_missing()
            self._client.set_registered_model_tag(self._name, prefix + promotion, when)
            return sum(name.startswith(prefix) for tags in self._tags_of_all_models() for name in tags)

    def _tags_of_all_models(self) -> Iterator[Mapping[str, str]]:
        page = None
        while True:
            answer = self._client.search_registered_models(max_results=_PAGE, page_token=page)
            yield from (model.tags for model in answer)
            page = answer.token
            if not page:
                return

    # --- a new champion

    def register(self, package: Package, run_id: str, tags: Mapping[str, str], description: str) -> Version:
        """Log the package to its training's run as a model for ``mlflow.pyfunc``, and create a pending version.

        Raises
        ------
        UsageError
            The model does not load in a fresh process.
        """
        with self._explaining_errors(), TemporaryDirectory() as temporary:
            self._create_if_missing()
            self._require_place(run_id)
            save_model(package, Path(temporary) / _MODEL)
            require_loadable(Path(temporary) / _MODEL)
            self._client.log_artifacts(run_id, str(Path(temporary) / _MODEL), _MODEL)
            source = f"{self._client.get_run(run_id).info.artifact_uri}/{_MODEL}"
            tags = {**tags, "package": package.digest, "state": "pending"}
            created = self._client.create_model_version(self._name, source, run_id, tags=tags, description=description)
        return _version(created)

    def set_champion(self, version: Version) -> Version | None:
        """Make a pending version the champion, or return the version that was promoted before it.

        Of all versions that were compared with the same champion, exactly one has the lowest number, because the
        registry counts versions and creates each one with its tags. That one wins. A version that won before is no
        rival if the champion that both were compared with has the alias again, after a rollback or a change by hand.
        The alias is read after the states, because a version with the state ``champion`` got the alias first.
        """
        earlier = [one for one in self.versions() if one.number < version.number and one.against == version.against]
        champion = self.champion()
        unchanged = version.against == (str(champion.number) if champion else NO_VERSION)
        rival_states = ("pending",) if unchanged else ("pending", "champion")
        rivals = [other for other in earlier if other.state in rival_states]
        if rivals:
            self._set_state(version, "lost")
            return rivals[0]
        with self._explaining_errors():
            self._client.set_registered_model_alias(self._name, CHAMPION, str(version.number))
        self._set_state(version, "champion")
        return None

    def roll_back(self) -> tuple[Version, Version]:
        """Make the previous champion the champion again; return the versions that lose and get the alias.

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
        with self._explaining_errors():
            self._client.set_registered_model_alias(self._name, CHAMPION, str(before.number))
        self._set_state(champion, "rolled back")
        return champion, before

    def fetch_package(self, version: Version, folder: Path) -> Path:
        """Download the package of a version below this folder, and return its path; it is not yet verified."""
        with self._explaining_errors():
            source, uri = f"{version.source}/{PACKAGE}", str(self._client.tracking_uri)
            return Path(mlflow.artifacts.download_artifacts(source, dst_path=str(folder), tracking_uri=uri))

    def log_files(self, run_id: str, files: Path, folder: str) -> None:
        """Log files to a folder of the artifacts of a training's run."""
        with self._explaining_errors():
            self._require_place(run_id)
            self._client.log_artifacts(run_id, str(files), folder)

    def find_run(self, experiment_id: str, search: str, label: str, storage: str) -> str:
        """Return the id of the run of a trial; ``storage`` is where the search lies."""
        with self._explaining_errors():
            query = f"tags.search = '{search}' and attributes.run_name = '{label}'"
            found = self._client.search_runs([experiment_id], query, max_results=1)
        if not found:
            raise TrackingError(
                f"MLflow has no run {label!r} of {search!r}. Export it with: python -m search.run --sync "
                f"{search} --storage {quote(storage)}; then promote again."
            )
        return str(found[0].info.run_id)

    def _require_place(self, run_id: str) -> None:
        """Raise TrackingError where files that are written from this machine would not arrive at the server."""
        if problem := find_problem(self._client, run_id):
            raise TrackingError(f"The model cannot be registered from here: {problem}.")

    def _create_if_missing(self) -> None:
        try:
            self._client.create_registered_model(self._name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    def _set_state(self, version: Version, state: State) -> None:
        with self._explaining_errors():
            self._client.set_model_version_tag(self._name, str(version.number), "state", state)

    @contextmanager
    def _explaining_errors(self) -> Iterator[None]:
        try:
            yield
        except (MlflowException, OSError, RefusedError, UnavailableError) as error:
            raise TrackingError(
                f"The model registry at {self.uri} refused: {first_line(error)}. What is trained is kept: the same "
                "command resumes from there."
            ) from error


def _version(found: ModelVersion) -> Version:
    return Version(
        number=int(found.version),
        run_id=str(found.run_id),
        source=str(found.source),
        created_ms=int(found.creation_timestamp or 0),
        tags=dict(found.tags),
    )
