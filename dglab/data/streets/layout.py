"""The layout of a scene: which things stand where, drawn from a domain's content.

Places are (x, z) in metres: x to the right of the camera, z ahead of it. ``d`` is always the dice of that part.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from dglab.data.streets import people, street, vehicles
from dglab.data.streets.canvas import Camera
from dglab.data.streets.content import Content, Road, Verge
from dglab.data.streets.dice import Dice, dice_for

HORIZON_OF_THINGS = 105.0  # metres; houses and trees line the street up to here


@dataclass(frozen=True)
class Thing:
    """One thing to draw. Layers are drawn in order, and within a layer the far things first.

    Attributes:
        layer: 0 skyline, 1 houses and what stands beside them, 2 street and sidewalk, 3 the ego car.
        z: distance of its nearest part, metres.
        draw: a function of :mod:`street`, :mod:`people` or :mod:`vehicles`.
        values: its keyword arguments.
        footprint: (x0, x1, z0, z1, height) of the box that throws its shadow, metres; None where it throws none.
    """

    layer: int
    z: float
    draw: Callable[..., None]
    values: dict[str, Any]
    footprint: tuple[float, float, float, float, float] | None = None


@dataclass
class Layout:
    """A scene before it is drawn: the camera in fractions of the picture, the road, the things.

    Attributes:
        focal, vanishing_column: fractions of the width; horizon: fraction of the height.
        camera_height: metres.
        road: the road on the ground.
        things: what stands on it, in the order in which it was laid out.
    """

    focal: float
    vanishing_column: float
    horizon: float
    camera_height: float
    road: Road
    things: list[Thing] = field(default_factory=list)

    def camera(self, width: int, height: int) -> Camera:
        """The camera for a canvas of this size; pixel centres lie at whole numbers."""
        cx, cy = self.vanishing_column * width - 0.5, self.horizon * height - 0.5
        return Camera(self.focal * width, cx, cy, self.camera_height)

    def add(self, layer: int, z: float, draw: Callable[..., None], shadow=None, /, **values: Any) -> None:
        """Put one thing into the scene."""
        self.things.append(Thing(layer, z, draw, values, shadow))

    def ordered(self) -> list[Thing]:
        """The things in painting order."""
        return sorted(self.things, key=lambda thing: (thing.layer, -thing.z))


def lay_out(content: Content, *name: object) -> Layout:
    """Draw one scene from the content.

    Args:
        content: what the domain contains.
        name: names the scene (domain, split, index); each part of the layout has its own dice under it, so that
            more traffic moves no house.
    """
    layout = _lay_road(content, dice_for(*name, "road"))
    _lay_skyline(layout, content, dice_for(*name, "skyline"))
    _lay_lots(layout, content, dice_for(*name, "lots"))
    _lay_furniture(layout, content, dice_for(*name, "furniture"))
    _lay_traffic(layout, content, dice_for(*name, "traffic"))
    _lay_parked(layout, content, dice_for(*name, "parked"))
    _lay_people(layout, content, dice_for(*name, "people"))
    if content.bonnet is not None:
        layout.add(3, 0.0, vehicles.bonnet, height=dice_for(*name, "bonnet").between(*content.bonnet))
    return layout


def _lay_road(content: Content, d: Dice) -> Layout:
    lanes, lane_width = d.whole(*content.lanes), d.between(*content.lane_width)
    parking = d.chance(0.6)
    half_width = lanes * lane_width / 2 + 0.35 + (1.9 if parking else 0.0)
    lane = lane_width / 2 if lanes > 1 else 0.0  # the camera drives in the lane next to the middle
    offset = (lane if content.drive_on_left else -lane) + d.between(-0.4, 0.4)
    curvature = d.between(*content.curvature) * d.choice((-1, 1))
    verges = tuple(_lay_verge(content, d) for _ in range(2))
    junction = None
    if d.chance(content.junction_share):
        start = d.between(13, 38)
        junction = (start, start + d.between(8, 13))
    phases = (d.between(0, 2 * math.pi), d.between(0, 2 * math.pi))
    road = Road(
        offset, curvature, half_width, lanes, lane_width, verges, junction, d.between(*content.edge_roughness),
        phases, d.choice(content.markings), d.chance(0.6), parking, None,
    )  # fmt: skip
    return Layout(
        d.between(*content.focal), 0.5 + d.between(*content.heading), d.between(*content.horizon),
        d.between(*content.camera_height), road,
    )  # fmt: skip


def _lay_verge(content: Content, d: Dice) -> Verge:
    walk = d.between(*content.sidewalk)
    strip, yard, bare = d.between(0.8, 2.5), d.between(2.0, 6.0), d.between(1.5, 5.0)
    has_walk, has_strip, has_yard = (
        d.chance(p) for p in (content.sidewalk_share, content.grass_share, content.yard_share)
    )
    if not has_walk:
        return Verge(bare, 0.0, 0.0)
    return Verge(strip if has_strip else 0.0, walk, yard if has_yard else 0.0)


def _lay_skyline(layout: Layout, content: Content, d: Dice) -> None:
    """A low row of houses and trees far away closes the view (except for a gap now and then)."""
    x = -150.0
    while x < 150.0:
        wide, z = d.between(8, 24), d.between(125, 170)
        high, leafy, gap, storeys = d.between(5, 12), d.unit(), d.chance(0.12), d.whole(*content.storeys)
        if gap:
            pass
        elif leafy < 0.45:
            layout.add(0, z, street.grove, x0=x, x1=x + wide, z=z, height=high)
        else:
            pitched = d.chance(content.pitched_roofs)
            layout.add(
                0, z, street.block, x0=x, x1=x + wide, z=z, height=3.2 * storeys + 1, storey=3.2, pitched=pitched
            )
        x += wide


def _lay_lots(layout: Layout, content: Content, d: Dice) -> None:
    """Lots along both sides: a house, or open ground, with a wall, fence or hedge in front."""
    road = layout.road
    for side in (-1, 1):
        z = d.between(-6.0, 3.0)
        storey = d.between(2.9, 3.5)
        while z < HORIZON_OF_THINGS:
            length, gap = d.between(8.0, 20.0), d.choice((0.0, 0.0, 0.0, 3.0, 6.0))
            storeys, pitched, built = d.whole(*content.storeys), d.chance(content.pitched_roofs), d.unit()
            front, inset, low = d.unit(), d.between(0.3, 0.9), d.between(0.9, 2.2)
            if road.in_junction(z, z + length):
                end = road.junction[0] - z - 0.5
                if end > 5.0:
                    length, gap = end, 0.0
                else:
                    z = road.junction[1] + 0.5
                    continue
            ends = {"z0": z, "z1": z + length, "x0": road.line(side, z), "x1": road.line(side, z + length)}
            if z + length > 2.0:
                if built < content.built:
                    height = storeys * storey + d.between(0.6, 1.4)
                    xs = sorted((ends["x0"], ends["x0"] + side * 10))
                    layout.add(
                        1, z, street.building, (*xs, z, z + length, height), side=side, height=height,
                        storey=storey, pitched=pitched, **ends,
                    )  # fmt: skip
                else:
                    _lay_open_lot(layout, content, d.fork(len(layout.things)), side, z, length)
                _lay_barrier(layout, content, side, ends, front, inset, low, built >= content.built)
            z += length + gap


def _lay_open_lot(layout: Layout, content: Content, d: Dice, side: int, z: float, length: float) -> None:
    kind = d.choice(content.tree_kinds)
    for _ in range(2 + d.count(length * 0.12)):
        depth, at = d.between(1.5, 12.0), z + d.between(0, length)
        x = layout.road.line(side, at) + side * depth
        height = d.between(*content.tree_height)
        if at > 3.0 and not layout.road.in_junction(at - 2, at + 2):
            shadow = (x - 1.5, x + 1.5, at - 1, at + 1, height)
            layout.add(1, at, street.tree, shadow, x=x, z=at, height=height, kind=kind)


def _lay_barrier(
    layout: Layout, content: Content, side: int, ends: dict, front: float, inset: float, low: float, open_lot: bool
) -> None:
    """A wall, fence or hedge just before the building line (where there is room: an open lot or a yard)."""
    if not open_lot and layout.road.verges[side > 0].yard == 0:
        front *= 2.2  # rarely directly in front of a house
    limits = (content.walls, content.walls + content.fences, content.walls + content.fences + content.hedges)
    for kind, limit in zip(("wall", "fence", "hedge"), limits, strict=True):
        if front < limit:
            shift = -side * inset
            place = {"x0": ends["x0"] + shift, "x1": ends["x1"] + shift, "z0": ends["z0"], "z1": ends["z1"]}
            layout.add(1, ends["z0"] - 0.05, street.barrier, kind=kind, height=low, **place)
            return


def _lay_furniture(layout: Layout, content: Content, d: Dice) -> None:
    """Street trees, lamp posts, poles, traffic lights and signs along the kerbs."""
    road = layout.road
    for side in (-1, 1):
        verge = road.verges[side > 0]
        kerb = 0.5 if verge.strip == 0 else max(0.5, verge.strip / 2)
        spacing, z = d.between(*content.lamp_spacing), d.between(5, 22)
        height = d.between(5.5, 8.5)
        while z < 90:
            if not road.in_junction(z, z):
                x = road.centre(z) + side * (road.half_width + kerb)
                shadow = (x - 0.1, x + 0.1, z, z + 0.2, height)
                layout.add(2, z, street.lamp_post, shadow, side=side, x=x, z=z, height=height)
            z += spacing
        kind = d.choice(content.tree_kinds)
        for _ in range(d.count(content.trees * 8)):
            z, tall = d.between(6, 85), d.between(*content.tree_height)
            if road.in_junction(z - 1.5, z + 1.5):
                continue
            x = road.centre(z) + side * (road.half_width + kerb + d.between(0.3, 1.0))
            layout.add(2, z, street.tree, (x - 1.6, x + 1.6, z - 1, z + 1, tall), x=x, z=z, height=tall, kind=kind)
    for _ in range(d.count(content.poles)):
        side, z, x = _beside_road(road, d, 5, 45, 0.4, 1.2)
        tall = d.choice((1.1, 1.1, 3.0, 7.5, 8.5))
        layout.add(2, z, street.pole, (x - 0.1, x + 0.1, z, z + 0.2, tall), x=x, z=z, height=tall)
    for _ in range(d.count(content.signs)):
        _, z, x = _beside_road(road, d, 6, 34, 0.4, 1.0)
        layout.add(2, z, street.traffic_sign, (x - 0.3, x + 0.3, z, z + 0.2, 2.8), x=x, z=z)
    for _ in range(d.count(content.lights)):
        side, z, x = _beside_road(road, d, 7, 32, 0.4, 0.8)
        arm = d.choice((0.0, 0.0, 2.5, 4.0))
        if road.junction is not None and d.chance(0.8):  # traffic lights like junctions
            z = road.junction[0] - 0.6 if d.chance(0.7) else road.junction[1] + 0.8
            x = road.centre(z) + side * (road.half_width + 0.6)
        layout.add(2, z, street.traffic_light, (x - 0.2, x + 0.2, z, z + 0.2, 3.4), side=side, x=x, z=z, arm=arm)


def _beside_road(road: Road, d: Dice, near: float, far: float, low: float, high: float) -> tuple[int, float, float]:
    """A place between low and high metres beside the road: side, z, x. Near places are likelier than far ones."""
    side = d.choice((-1, 1))
    z = near * (far / near) ** d.unit()
    if road.in_junction(z, z):
        z = road.junction[0] - 0.5
    return side, z, road.centre(z) + side * (road.half_width + d.between(low, high))


def _lay_traffic(layout: Layout, content: Content, d: Dice) -> None:
    """Vehicles in the lanes, one after the other, and some that cross at the junction."""
    road = layout.road
    kinds = [kind for kind, mean in _means(content) for _ in range(d.count(mean))]
    free = [d.between(7.0, 16.0) for _ in range(road.lanes)]  # from where on each lane is free
    order = sorted(kinds, key=lambda _: d.unit())
    for kind in order:
        if road.junction is not None and d.chance(0.3):
            _lay_crossing(layout, d, kind)
            continue
        lane = _pick_lane(road, content, d, kind, free)
        length = LENGTHS[kind]
        z = free[lane] + d.between(0.0, 7.0)
        free[lane] = z + length + d.between(3.0, 12.0)
        if z > 75.0:
            continue
        x = road.centre(z) + (lane + 0.5 - road.lanes / 2) * road.lane_width + d.between(-0.25, 0.25)
        away = _is_away(road, content, lane)
        shadow = (x - 0.9, x + 0.9, z, z + length, 1.4 if length < 6 else 3.0)
        if kind in CYCLES:
            ridden, profile = d.chance(content.ridden), d.chance(0.25)
            x += d.between(-1.0, 1.0)
            shadow = (x - 0.3, x + 0.3, z, z + 1.6, 1.5)
            layout.add(2, z, CYCLES[kind], shadow, x=x, z=z, ridden=ridden, profile=profile)
            continue
        layout.add(2, z, ALONG[kind], shadow, x=x, z=z, away=away)
        if kind == "tram":
            layout.road = road = road._replace(rails=x - road.centre(z))


def _means(content: Content) -> list[tuple[str, float]]:
    return [
        ("car", content.cars), ("truck", content.trucks), ("bus", content.buses), ("tram", content.trams),
        ("motorcycle", content.motorcycles), ("bicycle", content.bicycles),
    ]  # fmt: skip


LENGTHS = {"car": 4.3, "truck": 8.0, "bus": 11.0, "tram": 25.0, "motorcycle": 2.0, "bicycle": 1.8}
ALONG = {"car": vehicles.car, "truck": vehicles.truck, "bus": vehicles.bus, "tram": vehicles.tram}
CYCLES = {"motorcycle": people.motorcycle, "bicycle": people.bicycle}
ACROSS = {
    "car": vehicles.car_in_profile, "truck": vehicles.truck_in_profile, "bus": vehicles.bus_in_profile,
    "tram": vehicles.tram_in_profile,
}  # fmt: skip


def _is_away(road: Road, content: Content, lane: int) -> bool:
    """Whether this lane (0 is the leftmost) leads away from the camera."""
    if road.lanes == 1:
        return True
    right_half = lane >= road.lanes / 2
    return right_half != content.drive_on_left


def _pick_lane(road: Road, content: Content, d: Dice, kind: str, free: list[float]) -> int:
    lanes = range(road.lanes)
    if kind in CYCLES and road.lanes > 1:  # cycles keep to the outer lanes
        return d.choice((0, road.lanes - 1))
    pick = d.choice(lanes)
    best = min(lanes, key=lambda lane: free[lane])
    return pick if d.chance(0.5) else best


def _lay_crossing(layout: Layout, d: Dice, kind: str) -> None:
    road = layout.road
    z = d.between(road.junction[0] + 1.5, road.junction[1] - 1.0)
    reach = road.half_width + 4.0
    x = road.centre(z) + d.between(-reach, reach)
    half = LENGTHS[kind] / 2
    shadow = (x - half, x + half, z, z + 1.8, 1.4 if half < 3 else 3.0)
    if kind in CYCLES:
        layout.add(2, z, CYCLES[kind], shadow, x=x, z=z, ridden=True, profile=True)
    else:
        layout.add(1, z, ACROSS[kind], shadow, x=x, z=z)


def _lay_parked(layout: Layout, content: Content, d: Dice) -> None:
    """Parked cars along the kerbs, parked cycles on the sidewalks."""
    road = layout.road
    for side in (-1, 1):
        z = d.between(4, 9)
        while z < 80:
            taken, van, step = d.unit(), d.chance(0.1), d.between(5.2, 6.2)
            x = road.centre(z) + side * (road.half_width - 1.05)
            if road.parking and taken < content.parked and not road.in_junction(z - 5, z + 6):
                away = (side > 0) != content.drive_on_left
                shadow = (x - 0.9, x + 0.9, z, z + 4.3, 1.4)
                draw = vehicles.truck if van and z > 12 else vehicles.car
                layout.add(2, z, draw, shadow, x=x, z=z, away=away)
                z += 3.5 if draw is vehicles.truck else 0.0
            z += step
    for _ in range(d.count(content.parked_cycles)):
        _, z, x = _beside_road(road, d, 6, 30, 0.5, 2.0)
        draw = people.motorcycle if d.chance(0.5) else people.bicycle
        shadow = (x - 0.5, x + 0.5, z, z + 0.5, 0.8)
        layout.add(2, z, draw, shadow, x=x, z=z, ridden=False, profile=d.chance(0.75))


def _lay_people(layout: Layout, content: Content, d: Dice) -> None:
    road = layout.road
    for _ in range(d.count(content.persons)):
        side, near, across = d.choice((-1, 1)), d.chance(content.jaywalkers), d.unit()
        z = 6.0 * (50.0 / 6.0) ** d.unit()
        verge = road.verges[side > 0]
        beside = road.half_width + verge.strip + max(0.8, verge.walk) * (0.15 + 0.75 * across)
        x = road.centre(z) + (side * beside if not near else (across * 2 - 1) * road.half_width)
        for companion in range(1 + d.chance(0.3)):
            xx, zz = x + 0.6 * companion, z + 0.2 * companion
            layout.add(2, zz, people.person, (xx - 0.2, xx + 0.2, zz, zz + 0.2, 1.6), x=xx, z=zz)


# things that reach less than 5 m from their x; where they lie outside the picture they need not be drawn
NARROW = frozenset((
    street.tree, street.lamp_post, street.pole, street.traffic_light, street.traffic_sign,
    people.person, people.bicycle, people.motorcycle,
))  # fmt: skip
