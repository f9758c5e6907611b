"""Offer the carried workloads and chains by name. Each is imported when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping
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
        demo=Defaults(
            trials=3,
            epochs=5,
            presets=("regression-only", "test26-lr4", "test26-lr4-ns1", "test26-lr8"),
            fixed={"hidden_dim": 8, "batch_size": 128},
        ),
        # 250,000 training events in batches of 1,024 are the report's 244 steps an epoch
        full=Defaults(trials=50, epochs=50, presets=tuple(spaces.zdc.PRESETS), fixed={}),
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


PT_SMALL = {"batch_size": 64, "width": 64}  # for a sample of ten thousand events
PT_SIZING: dict[str, Callable[[Any], float]] = {"width": float, "depth": float, "batch_size": float}


def _pt_common() -> dict[str, Any]:
    """Return what the three pT models have in common."""
    import spaces.pt
    import trainables.pt.data
    import trainables.pt.evaluation
    import trainables.pt.export
    import trainables.pt.ingest
    import trainables.pt.metrics
    import trainables.pt.plots

    return {
        "settings": trainables.pt.data.PtDataSettings,
        "load_data": trainables.pt.data.load_data,
        "optional": spaces.pt.OPTIONAL,
        "objectives": trainables.pt.metrics.OBJECTIVES,
        "limits": trainables.pt.metrics.CONSTRAINTS,
        "compare": trainables.pt.plots.compare_trials,
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


def _pt_energy(name: str, title: str) -> Workload:
    import spaces.pt
    import trainables.pt.naive
    import trainables.pt.simulate
    from trainables.pt.config import PtEnergyConfig
    from trainables.pt.train import PtEnergyTraining

    return Workload(
        name=name,
        title=title,
        training=PtEnergyTraining,
        config=PtEnergyConfig,
        **_pt_common(),
        sizing=PT_SIZING | {"features": ("energy", "full").index},
        simulate_data=trainables.pt.simulate.simulate_data,
        suggest=spaces.pt.suggest_energy,
        presets=spaces.pt.PRESETS_ENERGY,
        mutable=spaces.pt.MUTABLE_ENERGY,
        columns=("bias", "core_sigma", "tail"),
        baselines=trainables.pt.naive.naive_predictors,
        demo=Defaults(trials=3, epochs=25, presets=("report", "small-sample"), fixed=PT_SMALL),
        full=Defaults(trials=50, epochs=200, presets=tuple(spaces.pt.PRESETS_ENERGY), fixed={}),
    )


def _pt_dphi(name: str, title: str) -> Workload:
    import spaces.pt
    import trainables.pt.naive
    import trainables.pt.simulate
    from trainables.pt.config import PtDphiConfig
    from trainables.pt.train import PtDphiTraining

    return Workload(
        name=name,
        title=title,
        training=PtDphiTraining,
        config=PtDphiConfig,
        **_pt_common(),
        sizing=PT_SIZING | {"monotonic": float, "boundary": float},
        simulate_data=trainables.pt.simulate.simulate_data,
        suggest=spaces.pt.suggest_dphi,
        presets=spaces.pt.PRESETS_DPHI,
        mutable=spaces.pt.MUTABLE_DPHI,
        columns=("bias", "core_sigma", "tail", "monotonic_violation", "boundary_error"),
        baselines=trainables.pt.naive.naive_predictors,
        demo=Defaults(trials=3, epochs=25, presets=("report", "small-sample"), fixed=PT_SMALL),
        full=Defaults(trials=50, epochs=500, presets=tuple(spaces.pt.PRESETS_DPHI), fixed={}),
    )


def _pt_combined(name: str, title: str) -> Workload:
    import spaces.pt
    import trainables.pt.combined
    import trainables.pt.naive
    import trainables.pt.simulate
    from trainables.pt.config import PtCombinedConfig
    from trainables.pt.train import PtCombinedTraining

    return Workload(
        name=name,
        title=title,
        training=PtCombinedTraining,
        config=PtCombinedConfig,
        **_pt_common(),
        sizing=PT_SIZING,
        simulate_data=trainables.pt.simulate.simulate_combined_data,
        suggest=spaces.pt.suggest_combined,
        presets=spaces.pt.PRESETS_COMBINED,
        mutable=spaces.pt.MUTABLE_COMBINED,
        columns=("bias", "core_sigma", "tail"),
        baselines=trainables.pt.combined.combined_baselines,
        references=trainables.pt.naive.references,
        demo=Defaults(trials=3, epochs=25, presets=("report", "small-sample"), fixed=PT_SMALL),
        full=Defaults(trials=50, epochs=300, presets=tuple(spaces.pt.PRESETS_COMBINED), fixed={}),
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
