"""Simulate electrons from the gun to the calorimeter: helix, scattering, one photon each, and silicon hits."""

# N events, L 7 silicon layers, K stations of material, H hits; GeV, cm, rad

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

FIELD_T = 1.4
CURVATURE = 0.299792458e-2 * FIELD_T  # GeV per cm: radius of the helix in cm = pT / CURVATURE
MIN_PT_GEV, MAX_PT_GEV = 0.2, 10.0  # below, an electron does not reach the calorimeter
MAX_ETA = 1.1
CALORIMETER_CM = 93.5

LAYER_CM = np.array([2.5255, 3.3385, 4.1505, 7.2004, 7.7444, 9.6924, 10.2744])  # middle of the silicon
# Ladders of layers 3 and 4, of 5 and 6, take turns in phi and overlap a little.
LADDER_PAIRS = np.array([12, 12, 16, 16])
LADDER_OVERLAP = 0.0107  # of the period in phi, at either end
STRIP_CM, STRIP_LENGTH_CM = 0.0078, 1.6
THICKNESS_CM = np.array([2e-4, 2e-4, 2e-4, 3e-3, 3e-3, 3e-3, 3e-3])  # spread of the radius of a cluster
PIXEL_RESOLUTION_CM = 5e-4

STATION_CM = np.array([2.0, 2.5255, 3.3385, 4.1505, 7.47, 9.98, 22.0])  # beam pipe, MVTX, INTT, then the rest
STATION_X0 = np.array([0.001, 0.0028, 0.0028, 0.0028, 0.013, 0.013, 0.02])  # thickness in radiation lengths
HIGHLAND_GEV = 0.0136

# Tuned to the multiplicities of Geant4.
PIXEL_LOSS, PIXEL_LOSS_FALL = 0.078, 8.0  # a pixel sensor misses an electron that crosses it steeply more often
STRIP_LOSS = 0.014
SPLIT = np.array([0.003, 0.003, 0.003, 0.010, 0.010, 0.010, 0.010])  # a cluster in two pieces
SPRAY = 0.085  # events in which something else crosses the silicon too
SPRAY_LAYER = np.array([0.24, 0.24, 0.26, 0.24, 0.33, 0.34, 0.40])  # it leaves clusters in this layer
SPRAY_CLUSTERS = 2.2  # mean number of them
SPRAY_CM = np.array([0.7, 0.8, 1.0, 3.0, 3.0, 3.5, 3.5])  # mean distance from the electron along phi, on the side
# to which electrons turn; in z to either side, this times SPRAY_Z
SPRAY_Z = 2.0


@dataclass(frozen=True)
class Tracks:
    """Electrons in flight, all as if negative and begun at phi = 0; ``silicon_hits`` rotates them."""

    pt_N: Floats
    eta_N: Floats
    phi_N: Floats
    lost_N: Floats  # share of the energy that became a photon
    photon_cm_N: Floats  # radius at which it did
    kick_rphi_NK: Floats  # scattering angles: slope of r phi, and of z, against r
    kick_z_NK: Floats

    def __len__(self) -> int:
        return len(self.pt_N)


@dataclass(frozen=True)
class Arrival:
    """Points where particles meet a cylinder; NaN where they do not."""

    phi: Floats  # from the direction in which the electron began
    z: Floats
    incidence: Floats  # direction of flight minus phi, in the transverse plane


def shoot(events: int, rng: np.random.Generator) -> Tracks:
    """Generate electrons flat in pT, eta and phi, with their energy losses and scattering angles."""
    pt_N = rng.uniform(MIN_PT_GEV, MAX_PT_GEV, events).astype(np.float32).astype(np.float64)
    eta_N = rng.uniform(-MAX_ETA, MAX_ETA, events).astype(np.float32).astype(np.float64)
    phi_N = rng.uniform(-np.pi, np.pi, events).astype(np.float32).astype(np.float64)
    slant_N = np.cosh(eta_N)
    thickness_NK = STATION_X0 * slant_N[:, None]
    # Bethe and Heitler: -log of the energy kept is gamma distributed. One photon stands for all.
    radiated_NK = rng.gamma(thickness_NK / np.log(2.0))
    angle_NK = HIGHLAND_GEV / pt_N[:, None] * np.sqrt(thickness_NK) * (1 + 0.038 * np.log(thickness_NK))
    return Tracks(
        pt_N=pt_N,
        eta_N=eta_N,
        phi_N=phi_N,
        lost_N=np.minimum(1.0 - np.exp(-radiated_NK.sum(axis=1)), 0.999),
        photon_cm_N=STATION_CM[radiated_NK.argmax(axis=1)],
        kick_rphi_NK=angle_NK * rng.standard_normal(angle_NK.shape),
        kick_z_NK=angle_NK * slant_N[:, None] * rng.standard_normal(angle_NK.shape),
    )


def electron_at(radius_cm: Floats, tracks: Tracks) -> Arrival:
    """Find where the electrons cross cylinders of these radii, arrays of shape (N, radii)."""
    helix_N1 = (tracks.pt_N / CURVATURE)[:, None]
    phi = np.arcsin(radius_cm / (2 * helix_N1))
    arc = 2 * helix_N1 * phi
    incidence = phi
    late = radius_cm > tracks.photon_cm_N[:, None]
    if late.any():
        bent_phi, bent_arc, bent_incidence = _after_photon(radius_cm, tracks)
        phi, arc = np.where(late, bent_phi, phi), np.where(late, bent_arc, arc)
        incidence = np.where(late, bent_incidence, incidence)
    lever = np.maximum(radius_cm[:, None] - STATION_CM, 0.0)
    kick_phi = (tracks.kick_rphi_NK @ lever.T) / radius_cm
    kick_z = tracks.kick_z_NK @ lever.T
    return Arrival(phi + kick_phi, arc * np.sinh(tracks.eta_N)[:, None] + kick_z, incidence)


def _after_photon(radius_cm: Floats, tracks: Tracks) -> tuple[Floats, Floats, Floats]:
    """Return phi, arc length and incidence at the radii, on the tighter helix that begins where the photon left."""
    helix_N = tracks.pt_N / CURVATURE
    turn_N = np.arcsin(tracks.photon_cm_N / (2 * helix_N))  # phi there; the direction is twice that
    tight_N = helix_N * (1.0 - tracks.lost_N)
    centre_N = tracks.photon_cm_N * np.exp(1j * turn_N) + 1j * tight_N * np.exp(2j * turn_N)
    distance_N1, tight_N1 = np.abs(centre_N)[:, None], tight_N[:, None]
    cosine = (radius_cm**2 + distance_N1**2 - tight_N1**2) / (2 * radius_cm * distance_N1)
    reached = np.abs(cosine) <= 1.0
    phi = np.where(reached, np.angle(centre_N)[:, None] - np.arccos(np.where(reached, cosine, 0.0)), np.nan)
    spoke = radius_cm * np.exp(1j * phi) - centre_N[:, None]
    direction = np.angle(1j * spoke * np.exp(-2j * turn_N)[:, None])  # from that at the photon
    arc = 2 * (helix_N * turn_N)[:, None] + tight_N1 * (direction % (2 * np.pi))
    return phi, arc, direction + 2 * turn_N[:, None] - phi


def photon_at(radius_cm: float, tracks: Tracks) -> Arrival:
    """Find where the photons cross a cylinder, arrays of shape (N,)."""
    turn_N = np.arcsin(tracks.photon_cm_N * CURVATURE / (2 * tracks.pt_N))
    miss_N = tracks.photon_cm_N * np.sin(turn_N)  # of the beam line
    incidence_N = np.arcsin(miss_N / radius_cm)
    path_N = radius_cm * np.cos(incidence_N) - tracks.photon_cm_N * np.cos(turn_N)
    arc_N = 2 * tracks.pt_N / CURVATURE * turn_N
    return Arrival(2 * turn_N - incidence_N, (arc_N + path_N) * np.sinh(tracks.eta_N), incidence_N)


def silicon_hits(
    tracks: Tracks, sense: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int32], Floats]:
    """Make the clusters of the silicon.

    Parameters
    ----------
    tracks : Tracks
    sense : int
        +1: phi grows along the way (electrons); -1: positrons.
    rng : numpy Generator

    Returns
    -------
    event (H,), layer (H,), position (H, 3)
        In order of event, then layer.
    """
    place = electron_at(LAYER_CM, tracks)
    phi_NL = tracks.phi_N[:, None] + sense * place.phi
    clusters_NL = _clusters_of_electron(tracks, phi_NL, rng).astype(np.int64)
    spray_NL = (rng.random(len(tracks)) < SPRAY)[:, None] & (rng.random(phi_NL.shape) < SPRAY_LAYER)
    stray_NL = np.where(spray_NL, rng.geometric(1 / SPRAY_CLUSTERS, phi_NL.shape), 0)
    count_NL = np.where(np.isfinite(phi_NL), clusters_NL + stray_NL, 0)
    event_H, layer_H = np.divmod(np.repeat(np.arange(phi_NL.size), count_NL.ravel()), len(LAYER_CM))
    first = np.repeat(np.cumsum(count_NL.ravel()) - count_NL.ravel(), count_NL.ravel())
    number_H = np.arange(len(event_H)) - first
    own = clusters_NL[event_H, layer_H]
    stray_H, second_H = number_H >= own, (number_H == 1) & (own == 2)
    rphi_H, z_H = np.zeros(len(event_H)), place.z[event_H, layer_H]
    rphi_H += np.where(stray_H, rng.exponential(SPRAY_CM[layer_H]), 0.0) + np.where(second_H, STRIP_CM * 1.5, 0.0)
    z_H += np.where(stray_H, rng.laplace(0.0, SPRAY_Z * SPRAY_CM[layer_H]), 0.0)
    return event_H, layer_H.astype(np.int32), _measured(layer_H, phi_NL[event_H, layer_H], rphi_H, z_H, rng)


def _clusters_of_electron(tracks: Tracks, phi_NL: Floats, rng: np.random.Generator) -> Floats:
    """Draw how many clusters (0, 1, 2) the electron itself leaves in each layer, shape (N, 7)."""
    pixel_loss_N = PIXEL_LOSS * np.exp(-PIXEL_LOSS_FALL * (np.cosh(tracks.eta_N) - 1.03))
    loss_NL = np.full(phi_NL.shape, STRIP_LOSS)
    loss_NL[:, :3] = pixel_loss_N[:, None]
    seen_NL = rng.random(phi_NL.shape) >= loss_NL
    period = phi_NL[:, 3:] / (2 * np.pi) * LADDER_PAIRS - np.array([0.0, 0.5, 0.5, 0.0]) + LADDER_OVERLAP
    period -= np.array([0.0, 0.0, 0.5, 0.5])
    seen_NL[:, 3:] &= period % 1.0 < 0.5 + 2 * LADDER_OVERLAP
    return seen_NL * (1.0 + (rng.random(phi_NL.shape) < SPLIT))


def _measured(
    layer_H: NDArray[np.int64], phi_H: Floats, rphi_H: Floats, z_H: Floats, rng: np.random.Generator
) -> Floats:
    """Smear positions (H, 3) like the sensors: pixels finely, strips finely in phi and coarsely in z."""
    pixel_H = layer_H < 3
    noise_H = rng.standard_normal(len(layer_H)) * PIXEL_RESOLUTION_CM
    strip_H = rng.uniform(-STRIP_CM / 2, STRIP_CM / 2, len(layer_H))
    radius_H = LAYER_CM[layer_H] + THICKNESS_CM[layer_H] * rng.standard_normal(len(layer_H))
    angle_H = phi_H + (rphi_H + np.where(pixel_H, noise_H, strip_H)) / LAYER_CM[layer_H]
    cell_H = (np.floor(z_H / STRIP_LENGTH_CM) + 0.5) * STRIP_LENGTH_CM
    fine_H = z_H + rng.standard_normal(len(layer_H)) * PIXEL_RESOLUTION_CM
    z_H = np.where(pixel_H, fine_H, cell_H)
    return np.stack([radius_H * np.cos(angle_H), radius_H * np.sin(angle_H), z_H], axis=1)
