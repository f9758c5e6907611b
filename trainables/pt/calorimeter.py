"""Simulate the electromagnetic calorimeter: showers of electrons and photons, towers and clusters."""

# N events, S showers, X cells of the patch around a shower, T towers, C clusters; GeV, cm, rad

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainables.pt.electrons import CALORIMETER_CM, Arrival, Floats, Tracks, electron_at, photon_at

Integers = NDArray[np.int64]

CENTRE_CM = 103.5  # radius of towers and clusters, half way through the calorimeter
PHI_TOWERS = 256
PITCH_RAD = 2 * np.pi / PHI_TOWERS
PITCH_CM = 2.671952  # of towers along z, at CENTRE_CM
Z_TOWERS = 128  # numbered from -64; all electrons of the gun fall well inside
PATCH = np.arange(-4, 5)  # towers about the middle of a shower that can receive energy
TOWERS_KEPT = 12
TOWER_THRESHOLD_GEV = 0.03
CLUSTER_THRESHOLD_GEV = 0.1
CLUSTER_REACH = 3.6  # towers: energy farther from the highest tower does not belong to the cluster

# Tuned to Geant4.
RESPONSE = 1.0
SAMPLING = 0.155  # relative width at 1 GeV
CONSTANT = 0.03  # relative width at any energy
CORE_TOWERS, HALO_TOWERS, HALO_SHARE = 0.23, 0.75, 0.27  # the profile falls as two exponentials
WIDTH_SPREAD = 0.25  # of the widths from shower to shower
DEPTH_CM, DEPTH_PER_LOG_GEV = 5.0, 0.65  # of the shower's middle at 1 GeV, along the flight
POSITION_TOWERS, POSITION_AT_1_GEV = 0.085, 0.16  # resolution of the cluster: these two in squares
STRAY = 0.04  # events with a cluster that has nothing to do with the electron
STRAY_GEV = 0.28  # mean above the threshold
STRAY_Z_CM = 110.0


@dataclass(frozen=True)
class Towers:
    """Towers with energy, the highest of each event first."""

    event_T: Integers
    phi_index_T: Integers  # 0 ... 255; phi of the middle is (index + 0.5) PITCH_RAD
    z_index_T: Integers  # 0 ... 127; z of the middle at CENTRE_CM is (index - 63.5) PITCH_CM
    energy_T: Floats


@dataclass(frozen=True)
class Clusters:
    """EMCal clusters; z is that at the inner face and grows with the radius."""

    event_C: Integers
    energy_C: Floats
    phi_C: Floats
    z_C: Floats


@dataclass(frozen=True)
class Showers:
    """Showers at their middle, phi and z in units of towers."""

    event_S: Integers
    energy_S: Floats
    phi_S: Floats
    z_S: Floats


def showers_of(tracks: Tracks, sense: int) -> Showers:
    """Make the showers of electrons and their photons that reach the calorimeter; sense as in ``silicon_hits``."""
    all_N, energy_N = np.arange(len(tracks)), tracks.pt_N * np.cosh(tracks.eta_N)
    there = electron_at(np.array([CALORIMETER_CM]), tracks)
    electron = Arrival(there.phi[:, 0], there.z[:, 0], there.incidence[:, 0])
    photon = photon_at(CALORIMETER_CM, tracks)
    one = _shower(all_N, energy_N * (1.0 - tracks.lost_N), tracks.phi_N, sense, electron)
    two = _shower(all_N, energy_N * tracks.lost_N, tracks.phi_N, sense, photon)
    joined = {name: np.concatenate([getattr(one, name), getattr(two, name)]) for name in vars(one)}
    return Showers(**joined)


def _shower(event: Integers, energy: Floats, phi_begin: Floats, sense: int, arrival: Arrival) -> Showers:
    """Place each shower's middle along the flight behind the point of arrival; drop particles that do not arrive."""
    slope = arrival.z / CALORIMETER_CM
    depth = (DEPTH_CM + DEPTH_PER_LOG_GEV * np.log(np.maximum(energy, 0.05))) / np.hypot(1.0, slope)
    sideways, inwards = depth * np.sin(arrival.incidence), depth * np.cos(arrival.incidence)
    phi = phi_begin + sense * (arrival.phi + np.arctan2(sideways, CALORIMETER_CM + inwards))
    z = (arrival.z + slope * depth) * CENTRE_CM / CALORIMETER_CM
    good = np.isfinite(phi) & (energy > 1e-3)
    return Showers(event[good], energy[good], (phi % (2 * np.pi) / PITCH_RAD)[good], (z / PITCH_CM + 64.0)[good])


def towers_of(showers: Showers, rng: np.random.Generator) -> Towers:
    """Sum the energy of each tower above the threshold, with sampling fluctuations and losses."""
    cell_phi = np.floor(showers.phi_S).astype(np.int64)[:, None] + PATCH
    cell_z = np.floor(showers.z_S).astype(np.int64)[:, None] + PATCH
    along_phi, along_z = cell_phi - showers.phi_S[:, None], cell_z - showers.z_S[:, None]
    width = np.exp(WIDTH_SPREAD * rng.standard_normal((len(showers.energy_S), 1)))
    core, halo = CORE_TOWERS * width, HALO_TOWERS * width
    share = (1 - HALO_SHARE) * _in_cells(along_phi, core)[:, :, None] * _in_cells(along_z, core)[:, None]
    share += HALO_SHARE * _in_cells(along_phi, halo)[:, :, None] * _in_cells(along_z, halo)[:, None]
    seen_S = showers.energy_S * RESPONSE * (1.0 + CONSTANT * rng.standard_normal(len(showers.energy_S)))
    mean = share * seen_S[:, None, None]
    shower_X, row_X, column_X = np.nonzero(mean > TOWER_THRESHOLD_GEV / 6)  # less cannot reach the threshold
    energy_X = rng.gamma(mean[shower_X, row_X, column_X] / SAMPLING**2, SAMPLING**2)
    phi_X = cell_phi[shower_X, row_X] % PHI_TOWERS
    z_X = np.clip(cell_z[shower_X, column_X], 0, Z_TOWERS - 1)
    key_X = (showers.event_S[shower_X] * PHI_TOWERS + phi_X) * Z_TOWERS + z_X
    key_T, place_X = np.unique(key_X, return_inverse=True)  # two showers may share a tower
    energy_T: Floats = np.bincount(place_X, energy_X, minlength=len(key_T)).astype(np.float64)
    key_T, energy_T = key_T[energy_T > TOWER_THRESHOLD_GEV], energy_T[energy_T > TOWER_THRESHOLD_GEV]
    order = np.lexsort((-energy_T, key_T // (PHI_TOWERS * Z_TOWERS)))
    key_T, energy_T = key_T[order], energy_T[order]
    event_T, cell_T = np.divmod(key_T, PHI_TOWERS * Z_TOWERS)
    return Towers(event_T, cell_T // Z_TOWERS, cell_T % Z_TOWERS, energy_T)


def _in_cells(offset: Floats, scale: Floats) -> Floats:
    """Integrate exp(-|u| / scale), normalised, from each offset to the next tower; same shape."""
    return _below(offset + 1.0, scale) - _below(offset, scale)


def _below(u: Floats, scale: Floats) -> Floats:
    tail = 0.5 * np.exp(-np.abs(u) / scale)
    return np.where(u < 0, tail, 1.0 - tail)


def clusters_of(events: int, showers: Showers, towers: Towers, rng: np.random.Generator) -> Clusters:
    """Make the cluster about the highest tower of each event, and stray ones; the electron's comes first."""
    first_T = np.concatenate([[True], np.diff(towers.event_T) != 0]) if len(towers.event_T) else np.zeros(0, bool)
    highest_phi_N, highest_z_N = np.zeros(events), np.zeros(events)
    highest_phi_N[towers.event_T[first_T]] = towers.phi_index_T[first_T] + 0.5
    highest_z_N[towers.event_T[first_T]] = towers.z_index_T[first_T] + 0.5
    phi_T, z_T = (index_T.astype(np.float64) + 0.5 for index_T in (towers.phi_index_T, towers.z_index_T))
    near_T = _near(towers.event_T, phi_T, z_T, highest_phi_N, highest_z_N)
    energy_N = np.bincount(towers.event_T[near_T], towers.energy_T[near_T], minlength=events)
    phi_N, z_N = _middle(showers, highest_phi_N, highest_z_N)
    spread_N = np.hypot(POSITION_TOWERS, POSITION_AT_1_GEV / np.sqrt(np.maximum(energy_N, 0.05)))
    phi_N = phi_N + spread_N * rng.standard_normal(events)
    z_N = z_N + spread_N * rng.standard_normal(events)
    found = np.flatnonzero(energy_N > CLUSTER_THRESHOLD_GEV)
    stray = np.flatnonzero(rng.random(events) < STRAY)
    event_C = np.concatenate([found, stray])
    energy_C = np.concatenate([energy_N[found], CLUSTER_THRESHOLD_GEV + rng.exponential(STRAY_GEV, len(stray))])
    phi_C = np.concatenate([phi_N[found] * PITCH_RAD, rng.uniform(0.0, 2 * np.pi, len(stray))])
    z_C = np.concatenate([(z_N[found] - 64.0) * PITCH_CM, rng.uniform(-STRAY_Z_CM, STRAY_Z_CM, len(stray))])
    order = np.argsort(event_C, kind="stable")
    phi_C = np.pi - (np.pi - phi_C) % (2 * np.pi)  # in (-pi, pi]
    return Clusters(event_C[order], energy_C[order], phi_C[order], (z_C * CALORIMETER_CM / CENTRE_CM)[order])


def _middle(showers: Showers, highest_phi_N: Floats, highest_z_N: Floats) -> tuple[Floats, Floats]:
    """Average the positions, weighted by energy, of the showers in each event's cluster; in towers."""
    events = len(highest_phi_N)
    near_S = _near(showers.event_S, showers.phi_S, showers.z_S, highest_phi_N, highest_z_N)
    event_S, energy_S = showers.event_S[near_S], showers.energy_S[near_S]
    away_S = _around(showers.phi_S[near_S] - highest_phi_N[event_S])
    total_N = np.maximum(np.bincount(event_S, energy_S, minlength=events), 1e-9)
    phi_N = highest_phi_N + np.bincount(event_S, energy_S * away_S, minlength=events) / total_N
    up_S = showers.z_S[near_S] - highest_z_N[event_S]
    z_N = highest_z_N + np.bincount(event_S, energy_S * up_S, minlength=events) / total_N
    return phi_N, z_N


def _near(event: Integers, phi: Floats, z: Floats, highest_phi_N: Floats, highest_z_N: Floats) -> NDArray[np.bool_]:
    along_phi = np.abs(_around(phi - highest_phi_N[event]))
    return (along_phi < CLUSTER_REACH) & (np.abs(z - highest_z_N[event]) < CLUSTER_REACH)


def _around(towers: Floats) -> Floats:
    """Wrap a difference of phi, in towers, to the short way round."""
    return (towers + PHI_TOWERS / 2) % PHI_TOWERS - PHI_TOWERS / 2
