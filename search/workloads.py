"""Offer the carried workloads and chains by name. Each is imported when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from search.workload import Chain, Defaults, Promotion, Tolerance, Workload

if TYPE_CHECKING:
    from trainables.data.files import DataSettings

T = TypeVar("T", bound=Workload | Chain)


@dataclass(frozen=True)
class Carried(Generic[T]):
    """A workload or chain that is made on first use because what it imports takes seconds."""

    title: str
    settings: str  # MODULE:CLASS of its data settings, which are imported in no time
    make: Callable[[str, str], T]  # (name, title)


class Catalogue(MutableMapping[str, T], Generic[T]):
    """Workloads or chains by name."""

    def __init__(self, carried: Mapping[str, Carried[T]]) -> None:
        self._carried, self._made = dict(carried), dict[str, T]()

    @property
    def titles(self) -> dict[str, str]:
        """Title of each, known without an import."""
        return {name: self._made[name].title if name in self._made else self._carried[name].title for name in self}

    def settings(self, name: str) -> type[DataSettings]:
        """Return the class of the data settings, without making the workload."""
        if name not in self._carried:
            first = self._made[name]
            return first.settings if isinstance(first, Workload) else WORKLOADS.settings(first.workloads[0])
        module, _, attribute = self._carried[name].settings.partition(":")
        found: type[DataSettings] = getattr(import_module(module), attribute)
        return found

    def __getitem__(self, name: str) -> T:
        if name not in self._made:
            carried = self._carried[name]
            self._made[name] = carried.make(name, carried.title)
        return self._made[name]

    @contextmanager
    def including(self, one: T) -> Iterator[None]:
        """Offer one more, or another one of its name, for a limited time."""
        before = self._made.get(one.name)
        self._made[one.name] = one
        try:
            yield
        finally:
            del self._made[one.name]
            if before is not None:
                self._made[one.name] = before

    def __setitem__(self, name: str, one: T) -> None:
        self._made[name] = one

    def __delitem__(self, name: str) -> None:
        self._made.pop(name, None)
        self._carried.pop(name, None)

    def __contains__(self, name: object) -> bool:
        return name in self._made or name in self._carried

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys([*self._carried, *self._made]))

    def __len__(self) -> int:
        return len(self._carried.keys() | self._made.keys())


def _zdc(name: str, title: str) -> Workload:
    import spaces.zdc
    import trainables.zdc.binning
    import trainables.zdc.data
    import trainables.zdc.evaluation
    import trainables.zdc.export
    import trainables.zdc.ingest
    import trainables.zdc.plots
    import trainables.zdc.simulate
    from trainables.zdc.config import ZDCConfig
    from trainables.zdc.train import ZDCTraining

    return Workload(
        name=name,
        title=title,
        training=ZDCTraining,
        config=ZDCConfig,
        settings=trainables.zdc.data.ZDCDataSettings,
        load_data=trainables.zdc.data.load_data,
        simulate_data=trainables.zdc.simulate.simulate_data,
        suggest=spaces.zdc.suggest,
        presets=spaces.zdc.PRESETS,
        optional=spaces.zdc.OPTIONAL,
        mutable=spaces.zdc.MUTABLE,
        sizing={"gan": float, "hidden_dim": float, "batch_size": float},
        objectives=trainables.zdc.binning.OBJECTIVES,
        columns=("mse_high", "mse_high_excess", "mse_high_excess_error", "brier"),
        baselines=trainables.zdc.data.naive_predictors,
        compare=trainables.zdc.plots.compare_trials,
        compare_seeds=trainables.zdc.plots.compare_seeds,
        demo=Defaults(
            trials=3,
            epochs=5,
            presets=("regression-only", "test26-lr4", "test26-lr4-ns1", "test26-lr8"),
            fixed={"hidden_dim": 8, "batch_size": 128},
        ),
        # 250,000 training events in batches of 1,024 are the report's 244 steps an epoch
        full=Defaults(trials=50, epochs=50),
        files=trainables.zdc.ingest.FILES,
        promotion=Promotion(
            preset="test26-lr4",
            watched={  # a tenth of mse is about the error of the excess, whatever the number of events
                "mse_high_excess": Tolerance(relative=0.1, to="mse_high"),
                "mse_low_excess": Tolerance(relative=0.1, to="mse_low"),
                "brier": Tolerance(relative=0.02),
            },
            load_holdout=trainables.zdc.data.load_holdout,
            evaluate=trainables.zdc.evaluation.evaluate_model,
            naive=trainables.zdc.evaluation.naive_evaluations,
            draw=trainables.zdc.plots.draw_holdout,
            package=trainables.zdc.export.package,
        ),
    )


def _pt_training(name: str, title: str, training: str, full_epochs: int, **more: Any) -> Workload:
    """Make one of the three pT models.

    Parameters
    ----------
    training : str
        Its word in the names of classes and spaces: ``energy``, ``dphi`` or ``combined``.
    full_epochs : int
        Epochs of a whole training, as in the report.
    more : fields of the workload, in which it differs from the others
    """
    import spaces.pt
    import trainables.pt.config
    import trainables.pt.data
    import trainables.pt.evaluation
    import trainables.pt.export
    import trainables.pt.ingest
    import trainables.pt.metrics
    import trainables.pt.naive
    import trainables.pt.plots
    import trainables.pt.simulate
    import trainables.pt.train

    of = f"Pt{training.capitalize()}"
    fields: dict[str, Any] = {
        "name": name,
        "title": title,
        "training": getattr(trainables.pt.train, f"{of}Training"),
        "config": getattr(trainables.pt.config, f"{of}Config"),
        "settings": trainables.pt.data.PtDataSettings,
        "load_data": trainables.pt.data.load_data,
        "simulate_data": trainables.pt.simulate.simulate_data,
        "suggest": getattr(spaces.pt, f"suggest_{training}"),
        "presets": getattr(spaces.pt, f"PRESETS_{training.upper()}"),
        "optional": spaces.pt.OPTIONAL,
        "mutable": getattr(spaces.pt, f"MUTABLE_{training.upper()}"),
        "sizing": {"width": float, "depth": float, "batch_size": float},
        "objectives": trainables.pt.metrics.OBJECTIVES,
        "constraints": trainables.pt.metrics.CONSTRAINTS,
        "columns": ("bias", "core_sigma", "tail"),
        "baselines": trainables.pt.naive.naive_predictors,
        "compare": trainables.pt.plots.compare_trials,
        "compare_seeds": trainables.pt.plots.compare_seeds,
        # width and batch for a sample of ten thousand events
        "demo": Defaults(3, 25, ("report", "small-sample"), {"batch_size": 64, "width": 64}),
        "full": Defaults(50, full_epochs),
        "files": trainables.pt.ingest.FILES,
        "promotion": Promotion(
            preset="report",
            watched={"bias": Tolerance(absolute=0.005)},
            load_holdout=trainables.pt.data.load_holdout,
            evaluate=trainables.pt.evaluation.evaluate_model,
            naive=trainables.pt.evaluation.naive_evaluations,
            draw=trainables.pt.plots.draw_holdout,
            package=trainables.pt.export.package,
        ),
    }
    fields["sizing"] |= more.pop("also_sizing", {})
    fields["columns"] += more.pop("also_columns", ())
    return Workload(**fields | more)


def _pt_energy(name: str, title: str) -> Workload:
    return _pt_training(name, title, "energy", 200, also_sizing={"features": ("energy", "full").index})


def _pt_dphi(name: str, title: str) -> Workload:
    penalties = {"monotonic": float, "boundary": float}
    columns = ("monotonic_violation", "boundary_error")
    return _pt_training(name, title, "dphi", 500, also_sizing=penalties, also_columns=columns)


def _pt_combined(name: str, title: str) -> Workload:
    import trainables.pt.combined
    import trainables.pt.naive
    import trainables.pt.simulate

    return _pt_training(
        name,
        title,
        "combined",
        300,
        simulate_data=trainables.pt.simulate.simulate_combined_data,
        baselines=trainables.pt.combined.combined_baselines,
        references=trainables.pt.naive.references,
        builds_on=trainables.pt.combined.BRANCHES,
        join=trainables.pt.combined.join_branches,
    )


def _pt_chain(name: str, title: str) -> Chain:
    import trainables.pt.combined

    return Chain(
        name=name,
        title=title,
        workloads=("pt-energy", "pt-dphi", "pt-combined"),
        columns=trainables.pt.combined.CORRECTED_NUMBERS,
        rows=trainables.pt.combined.chain_rows,
    )


_PT = "trainables.pt.data:PtDataSettings"
WORKLOADS: Catalogue[Workload] = Catalogue(
    {
        "zdc": Carried(
            "ZDC fast simulation: six parameters of a particle to its 20x20 hit map",
            "trainables.zdc.data:ZDCDataSettings",
            _zdc,
        ),
        "pt-energy": Carried("electron pT in sPHENIX from positions and the calorimeter's energy", _PT, _pt_energy),
        "pt-dphi": Carried("electron pT in sPHENIX from the bending angle", _PT, _pt_dphi),
        "pt-combined": Carried("electron pT in sPHENIX from both models together", _PT, _pt_combined),
    }
)
CHAINS: Catalogue[Chain] = Catalogue({"pt": Carried("electron pT, the three models one after another", _PT, _pt_chain)})
