"""From a layout to exact maps: which surface, which class and which depth each pixel sees."""

from typing import NamedTuple

import numpy as np

from dglab.data.streets.canvas import FAR, SKY_DEPTH, Canvas, Material, Surfaces
from dglab.data.streets.content import Road
from dglab.data.streets.dice import Dice
from dglab.data.streets.labels import ROAD, SIDEWALK, TERRAIN
from dglab.data.streets.layout import NARROW, Layout


class GroundPixels(NamedTuple):
    """The pixels that see the ground, P of them.

    Attributes:
        index: P int, position in the flattened picture.
        z: P float32, distance in metres.
        across: P float32, metres to the right of the road's centre line.
        label: P uint8, road, sidewalk or terrain.
        beyond: P float32, metres beyond the road's edge (negative on the road).
    """

    index: np.ndarray
    z: np.ndarray
    across: np.ndarray
    label: np.ndarray
    beyond: np.ndarray


class Geometry(NamedTuple):
    """A drawn scene without any colour. H x W is the size of the canvas.

    Attributes:
        canvas: where it was drawn.
        layout: from what it was drawn.
        number: H x W int32, surface of each pixel.
        surfaces: the table of surfaces.
        label: H x W uint8.
        depth: H x W float32, metres along the z axis.
        ground: the pixels that see the ground.
    """

    canvas: Canvas
    layout: Layout
    number: np.ndarray
    surfaces: Surfaces
    label: np.ndarray
    depth: np.ndarray
    ground: GroundPixels


def draw_geometry(layout: Layout, details: Dice, width: int, height: int) -> Geometry:
    """Draw the things of a layout, far to near, and read label and depth from the drawing.

    Args:
        layout: the scene.
        details: draws the shapes of single things; each thing reads at a place of its own.
        width, height: size of the canvas in pixels.
    """
    canvas = Canvas(layout.camera(width, height), width, height)
    for position, thing in enumerate(layout.ordered()):
        canvas.thing = position + 1  # counted where a thing is skipped, too: paints do not depend on the size
        if thing.draw in NARROW and not canvas.sees(thing.values["x"], thing.z, 5.0):
            continue
        thing.draw(canvas, details.fork(position), **thing.values)
    number, surfaces = canvas.numbers(), canvas.surfaces()
    label, depth = surfaces.label[number], _depth(number, surfaces)
    index = np.flatnonzero(surfaces.material[number] == Material.GROUND)
    ground = _read_ground(index, canvas, depth, layout.road)
    label.reshape(-1)[index] = ground.label
    return Geometry(canvas, layout, number, surfaces, label, depth, ground)


def _depth(number: np.ndarray, surfaces: Surfaces) -> np.ndarray:
    """Depth of every pixel from the planes: 1 / z = a * column + b * row + c."""
    height, width = number.shape
    a, b, c = (np.ascontiguousarray(surfaces.plane[:, k])[number] for k in range(3))
    a *= np.arange(width, dtype=np.float32)
    b *= np.arange(height, dtype=np.float32)[:, None]
    a += b
    a += c
    np.clip(a, 1.0 / FAR, 2.0, out=a)  # a pixel at the rim of a steep plane may lie just outside it
    np.divide(1.0, a, out=a)
    a[number == Canvas.SKY] = SKY_DEPTH
    return a


def _read_ground(index: np.ndarray, canvas: Canvas, depth: np.ndarray, road: Road) -> GroundPixels:
    """Road, sidewalk or terrain, by the distance from the road's centre line."""
    z = depth.reshape(-1)[index]
    column = (index % canvas.width).astype(np.float32)
    across = (column - np.float32(canvas.camera.cx)) * z * np.float32(1 / canvas.camera.focal) - road.centre(z)
    right = across > 0
    distance = np.abs(across) - np.float32(road.half_width)
    if road.rough > 0:
        phase = np.where(right, np.float32(road.phases[0]), np.float32(road.phases[1]))
        distance += np.float32(road.rough) * (np.sin(0.9 * z + phase) * 0.6 + np.sin(2.3 * z + 2 * phase) * 0.4)
    left_verge, right_verge = road.verges
    strip = np.where(right, np.float32(right_verge.strip), np.float32(left_verge.strip))
    paved = np.where(
        right,
        np.float32(right_verge.strip + right_verge.walk),
        np.float32(left_verge.strip + left_verge.walk),
    )
    label = np.full(len(index), TERRAIN, np.uint8)
    label[(distance >= strip) & (distance < paved)] = SIDEWALK
    label[distance < 0] = ROAD
    if road.junction is not None:
        start, end = road.junction
        label[(z > start) & (z < end)] = ROAD
        pavement = (distance > 0) & (((z > start - 2.0) & (z <= start)) | ((z >= end) & (z < end + 2.0)))
        label[pavement & (paved > strip)] = SIDEWALK
    return GroundPixels(index, z, across, label, distance)
