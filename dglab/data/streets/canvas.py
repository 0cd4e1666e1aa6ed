"""Geometry: one pinhole camera, and a canvas on which every drawn surface knows its class and its plane.

The painter draws only *surface numbers*. What a surface is (class, material, plane in space) stands in a table
beside the picture, so that label map, depth map and appearance all come from one and the same drawing.
"""

import math
from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

Point = tuple[float, float, float]  # (x to the right, y up from the ground, z ahead), metres

NEAR = 1.0  # metres; nothing is drawn nearer to the camera
FAR = 400.0  # metres; ground and things end here
SKY_DEPTH = 1000.0  # metres; what the depth map says where there is only sky


class Material(IntEnum):
    """What a surface is made of. A style gives each material its paints, a label never depends on it."""

    SKY = 0
    GROUND = 1
    FACADE = 2
    ROOF = 3
    WALL = 4
    FENCE = 5
    BARK = 6
    LEAF = 7
    METAL = 8
    SIGN = 9
    SIGN_RIM = 10
    HOUSING = 11
    LAMP_RED = 12
    LAMP_AMBER = 13
    LAMP_GREEN = 14
    CAR = 15
    TRUCK = 16
    BUS = 17
    TRAM = 18
    GLASS = 19
    TYRE = 20
    HEADLIGHT = 21
    TAILLIGHT = 22
    SKIN = 23
    HAIR = 24
    SHIRT = 25
    TROUSERS = 26
    HELMET = 27
    CYCLE = 28
    PLATE = 29
    BONNET = 30


class Camera(NamedTuple):
    """A pinhole camera that looks along the road, in pixels of the canvas it draws on.

    Attributes:
        focal: focal length in pixels.
        cx, cy: column and row of the vanishing point of the z axis (cy is the horizon).
        height: metres above the ground.
    """

    focal: float
    cx: float
    cy: float
    height: float

    def project(self, x: float, y: float, z: float) -> tuple[float, float]:
        """Column and row of the point (x, y, z) in metres; z must be positive."""
        scale = self.focal / z
        return self.cx + scale * x, self.cy + scale * (self.height - y)

    def plane(self, p: Point, q: Point, r: Point) -> tuple[float, float, float, float, float, float]:
        """The plane through three points as (a, b, c, nx, ny, nz).

        In a pinhole image the inverse depth of any plane is linear: 1 / z = a * column + b * row + c. That is all
        the depth map needs. (nx, ny, nz) is the unit normal that points towards the camera.
        """
        ux, uy, uz = q[0] - p[0], q[1] - p[1], q[2] - p[2]
        vx, vy, vz = r[0] - p[0], r[1] - p[1], r[2] - p[2]
        nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        distance = nx * p[0] + ny * (p[1] - self.height) + nz * p[2]
        length = math.sqrt(nx * nx + ny * ny + nz * nz)
        if abs(distance) < 1e-6 * (length + 1e-9):  # seen exactly edge-on: nothing of it is visible
            return 0.0, 0.0, 1.0 / p[2], 0.0, 0.0, -1.0
        a, b = nx / (distance * self.focal), -ny / (distance * self.focal)
        c = nz / distance - a * self.cx - b * self.cy
        flip = -1.0 if distance > 0 else 1.0
        return a, b, c, flip * nx / length, flip * ny / length, flip * nz / length


class Surfaces(NamedTuple):
    """The table beside the drawing: one row per surface, N rows.

    Attributes:
        label: N uint8, class 0-18 or 255.
        material: N int64, values of :class:`Material`.
        thing: N int64, number of the thing it belongs to (all parts of one car share their paint).
        shade: N float32, brightness factor of this part.
        plane: N x 3 float32, (a, b, c) with 1 / z = a * column + b * row + c.
        normal: N x 3 float32, unit normal towards the camera.
        detail: N x 5 float32, parameters of the material's pattern (windows of a facade, bars of a fence).
    """

    label: np.ndarray
    material: np.ndarray
    thing: np.ndarray
    shade: np.ndarray
    plane: np.ndarray
    normal: np.ndarray
    detail: np.ndarray


NO_DETAIL = (0.0, 0.0, 0.0, 0.0, 0.0)


class Canvas:
    """Draws polygons of surface numbers, far to near.

    Args:
        camera: the camera, in pixels of this canvas.
        width, height: size of the canvas in pixels.
    """

    SKY, GROUND = 0, 1  # the first two surfaces of every picture

    def __init__(self, camera: Camera, width: int, height: int) -> None:
        self.camera, self.width, self.height = camera, width, height
        self.picture = Image.new("I", (width, height), self.SKY)
        self._draw = ImageDraw.Draw(self.picture)
        self._rows: list[tuple] = []
        self.thing = 0  # number of the thing being drawn: its surfaces share their paint
        self._add(10, Material.SKY, 1.0, (0.0, 0.0, 1.0 / SKY_DEPTH, 0.0, 0.0, -1.0), NO_DETAIL)
        ground = camera.plane((0.0, 0.0, 1.0), (1.0, 0.0, 1.0), (0.0, 0.0, 2.0))
        self._add(0, Material.GROUND, 1.0, ground, NO_DETAIL)
        first_row = math.ceil(camera.cy + camera.focal * camera.height / FAR)
        if first_row < height:
            self._draw.rectangle((0, first_row, width, height), fill=self.GROUND)

    def _add(self, label: int, material: int, shade: float, plane: tuple, detail: Sequence[float]) -> int:
        self._rows.append((label, material, self.thing, shade, *plane, *detail))
        return len(self._rows) - 1

    def sees(self, x: float, z: float, reach: float) -> bool:
        """Whether a thing at (x, z) that reaches this far (metres) to both sides is in the picture."""
        left, right = self.camera.project(x - reach, 0.0, z)[0], self.camera.project(x + reach, 0.0, z)[0]
        return right > 0 and left < self.width

    def polygon(self, label: int, material: int, points: Sequence[Point], shade: float = 1.0, detail=NO_DETAIL) -> None:
        """Draw a flat polygon in space; its first three points must not lie on one line."""
        surface = self._add(label, material, shade, self.camera.plane(*points[:3]), detail)
        project = self.camera.project
        self._draw.polygon([project(*point) for point in points], fill=surface)

    def upright(self, x: float, z: float, mirrored: bool = False) -> "Upright":
        """A card that stands at (x, z) and faces the camera; people, trees and signs are drawn on cards."""
        return Upright(self, x, z, mirrored)

    def overlay(self, label: int, material: int, points: Sequence[tuple[float, float]], z: float) -> None:
        """Draw a polygon given in fractions of the picture (column, row), at one depth (metres)."""
        surface = self._add(label, material, 1.0, (0.0, 0.0, 1.0 / z, 0.0, 0.0, -1.0), NO_DETAIL)
        self._draw.polygon([(u * self.width, v * self.height) for u, v in points], fill=surface)

    def numbers(self) -> np.ndarray:
        """The drawing: height x width int32, the surface seen at each pixel."""
        return np.asarray(self.picture, np.int32)

    def surfaces(self) -> Surfaces:
        """The table of all surfaces drawn so far."""
        table = np.array(self._rows, np.float32)
        integers = table[:, :3].astype(np.int64)
        return Surfaces(
            integers[:, 0].astype(np.uint8), integers[:, 1], integers[:, 2], table[:, 3],
            table[:, 4:7], table[:, 7:10], table[:, 10:15],
        )  # fmt: skip


class Upright:
    """A card at ground position (x, z) facing the camera; coordinates are metres right of x and above ground."""

    def __init__(self, canvas: Canvas, x: float, z: float, mirrored: bool) -> None:
        camera = canvas.camera
        self._canvas, self._draw = canvas, canvas._draw
        self._u, self._v = camera.project(x, 0.0, z)
        self.scale = camera.focal / z  # pixels per metre
        self._sx = -self.scale if mirrored else self.scale
        self._plane = (0.0, 0.0, 1.0 / z, 0.0, 0.0, -1.0)
        self._numbers: dict[tuple, int] = {}

    def _surface(self, label: int, material: int, shade: float) -> int:
        key = (label, material, shade)
        if key not in self._numbers:
            self._numbers[key] = self._canvas._add(label, material, shade, self._plane, NO_DETAIL)
        return self._numbers[key]

    def polygon(self, label: int, material: int, points: Sequence[tuple[float, float]], shade: float = 1.0) -> None:
        """Draw a polygon of (x, y) points."""
        u, v, sx, sy = self._u, self._v, self._sx, self.scale
        fill = self._surface(label, material, shade)
        self._draw.polygon([(u + sx * x, v - sy * y) for x, y in points], fill=fill)

    def box(self, label: int, material: int, x0: float, y0: float, x1: float, y1: float, shade: float = 1.0) -> None:
        """Draw an upright rectangle."""
        self.polygon(label, material, ((x0, y0), (x1, y0), (x1, y1), (x0, y1)), shade)

    def disc(self, label: int, material: int, x: float, y: float, radius: float, shade: float = 1.0) -> None:
        """Draw a filled circle."""
        self._draw.ellipse(self._bounds(x, y, radius), fill=self._surface(label, material, shade))

    def ring(self, label: int, material: int, x: float, y: float, radius: float, thickness: float) -> None:
        """Draw a circle of the given thickness; what lies behind shows through its middle."""
        width = max(1, round(thickness * self.scale))
        surface = self._surface(label, material, 1.0)
        self._draw.ellipse(self._bounds(x, y, radius), outline=surface, width=width)

    def line(self, label: int, material: int, points: Sequence[tuple[float, float]], thickness: float) -> None:
        """Draw a broken line of the given thickness in metres (one pixel at least)."""
        u, v, sx, sy = self._u, self._v, self._sx, self.scale
        width = max(1, round(thickness * sy))
        ends = [(u + sx * x, v - sy * y) for x, y in points]
        self._draw.line(ends, fill=self._surface(label, material, 1.0), width=width)

    def _bounds(self, x: float, y: float, radius: float) -> tuple[float, float, float, float]:
        u, v, r = self._u + self._sx * x, self._v - self.scale * y, self.scale * radius
        return u - r, v - r, u + r, v + r
