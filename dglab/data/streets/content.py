"""What the streets of a domain contain, and the road of one scene."""

from dataclasses import dataclass
from typing import Any, NamedTuple

from dglab.data.streets.dice import Range


@dataclass(frozen=True)
class Content:
    """What the scenes of a domain contain. Ranges are (low, high); each scene draws one value.

    Attributes:
        camera_height: metres above the road.
        horizon: row of the horizon as a fraction of the picture's height (0 is the top).
        heading: column of the street's vanishing point as a fraction of the width, relative to the centre.
        focal: focal length as a fraction of the picture's width (0.6 sees 80 degrees).
        lanes: lowest and highest number of lanes in both directions together.
        lane_width: metres.
        curvature: bend of the road in 1 / metres (its sign is drawn too).
        edge_roughness: how far the road's edge strays from its line, metres.
        sidewalk_share: probability that a side of the street has a sidewalk.
        sidewalk: width of a sidewalk, metres.
        grass_share: probability of a strip of grass or soil between road and sidewalk, per side.
        yard_share: probability of front yards (terrain) between sidewalk and houses, per side.
        junction_share: probability of a crossing street.
        markings: kinds of centre line to choose from: "dashed", "double", "solid", "none".
        built: probability that a lot carries a house (else trees, a wall, a fence or open ground).
        storeys: lowest and highest number of storeys.
        pitched_roofs: probability of a pitched roof.
        trees: trees per 10 m and side.
        tree_kinds: kinds of tree to choose from: "broad", "conifer", "palm".
        tree_height: metres.
        hedges: probability of a hedge in front of a lot.
        walls, fences: probability of a wall, of a fence in front of a lot.
        lamp_spacing: metres between lamp posts.
        poles, lights, signs: mean number of other poles, traffic lights and signs per scene.
        parked: probability that a parking place is taken, where the road has any.
        cars, trucks, buses, trams, motorcycles, bicycles: mean number on the road per scene.
        parked_cycles: mean number of parked motorcycles and bicycles per scene.
        ridden: probability that a motorcycle or bicycle on the road carries a rider.
        persons: mean number of pedestrians per scene.
        jaywalkers: probability that a pedestrian walks on the road.
        drive_on_left: whether traffic keeps to the left.
        bonnet: height of the ego car's bonnet as a fraction of the picture's height; it is ignored (255).
    """

    camera_height: Range
    horizon: Range
    heading: Range
    focal: Range = (0.55, 0.65)
    lanes: tuple[int, int] = (2, 4)
    lane_width: Range = (3.0, 3.6)
    curvature: Range = (0.0, 0.004)
    edge_roughness: Range = (0.0, 0.0)
    sidewalk_share: float = 0.9
    sidewalk: Range = (2.0, 4.0)
    grass_share: float = 0.3
    yard_share: float = 0.3
    junction_share: float = 0.4
    markings: tuple[str, ...] = ("dashed",)
    built: float = 0.8
    storeys: tuple[int, int] = (2, 6)
    pitched_roofs: float = 0.3
    trees: float = 0.5
    tree_kinds: tuple[str, ...] = ("broad",)
    tree_height: Range = (4.0, 8.0)
    hedges: float = 0.15
    walls: float = 0.2
    fences: float = 0.2
    lamp_spacing: Range = (18.0, 35.0)
    poles: float = 2.0
    lights: float = 1.0
    signs: float = 1.5
    parked: float = 0.3
    cars: float = 3.0
    trucks: float = 0.5
    buses: float = 0.5
    trams: float = 0.35
    motorcycles: float = 0.6
    bicycles: float = 0.6
    parked_cycles: float = 0.6
    ridden: float = 0.8
    persons: float = 4.0
    jaywalkers: float = 0.1
    drive_on_left: bool = False
    bonnet: Range | None = None


class Verge(NamedTuple):
    """One side of the street, from the road outwards, in metres; beyond it all there is terrain or paving.

    Attributes:
        strip: width of the grass strip along the road.
        walk: width of the sidewalk.
        yard: width of the front yards (terrain).
    """

    strip: float
    walk: float
    yard: float

    @property
    def width(self) -> float:
        """From the edge of the road to the houses."""
        return self.strip + self.walk + self.yard


class Road(NamedTuple):
    """The road on the ground, in metres.

    Attributes:
        offset: x of the road's centre at the camera.
        curvature: bend to the right in 1 / metres.
        half_width: from the centre to the edge.
        lanes: number of lanes.
        lane_width: of one lane.
        verges: left and right side.
        junction: where the crossing street begins and ends (z), or None.
        rough: amplitude of the edges' straying; phases: two angles for it.
        marking: kind of the centre line.
        crosswalk: whether a zebra crossing lies before the junction.
        parking: whether there is room for parked cars along both kerbs, 1.9 m beside the lanes.
        rails: x of the track's centre relative to the road's centre, or None.
    """

    offset: float
    curvature: float
    half_width: float
    lanes: int
    lane_width: float
    verges: tuple[Verge, Verge]
    junction: tuple[float, float] | None
    rough: float
    phases: tuple[float, float]
    marking: str
    crosswalk: bool
    parking: bool
    rails: float | None

    def centre(self, z: Any) -> Any:
        """x of the road's centre at distance z (a number or an array), metres."""
        return self.offset + (0.5 * self.curvature) * z * z

    def line(self, side: int, z: float) -> float:
        """x of the building line."""
        return self.centre(z) + side * (self.half_width + self.verges[side > 0].width)

    def in_junction(self, z0: float, z1: float) -> bool:
        """Whether the stretch from z0 to z1 touches the crossing street."""
        return self.junction is not None and z1 > self.junction[0] and z0 < self.junction[1]
