"""How cars, lorries, buses and trams are drawn, and the bonnet of the car that carries the camera."""

import math
from dataclasses import dataclass

from dglab.data.streets.canvas import NEAR, Canvas, Material, Point
from dglab.data.streets.dice import Dice
from dglab.data.streets.labels import BUS, CAR, TRAIN, TRUCK

M = Material


@dataclass(frozen=True)
class Hull:
    """The box around a vehicle that drives along the street: metres, from (x0, z0) to (x1, z1)."""

    x0: float
    x1: float
    z0: float
    z1: float
    height: float

    @property
    def visible_side(self) -> float | None:
        """The x of the side that the camera sees; None where it looks at the end only."""
        return self.x0 if self.x0 > 0 else self.x1 if self.x1 < 0 else None

    def end(self, left: float, low: float, right: float, high: float) -> list[Point]:
        """A rectangle on the end facing the camera; left and right as fractions of the width."""
        a, b = self._x(left), self._x(right)
        return [(a, low, self.z0), (b, low, self.z0), (b, high, self.z0), (a, high, self.z0)]

    def flank(self, front: float, low: float, back: float, high: float) -> list[Point]:
        """A rectangle on the visible side; front and back as fractions of the length, seen from the camera."""
        a, b, x = self._z(front), self._z(back), self.visible_side
        return [(x, low, a), (x, low, b), (x, high, b), (x, high, a)]

    def top(self) -> list[Point]:
        """The upper face."""
        h = self.height
        return [(self.x0, h, self.z0), (self.x1, h, self.z0), (self.x1, h, self.z1), (self.x0, h, self.z1)]

    def _x(self, fraction: float) -> float:
        return self.x0 + fraction * (self.x1 - self.x0)

    def _z(self, fraction: float) -> float:
        return self.z0 + fraction * (self.z1 - self.z0)

    def wheel(self, fraction: float, radius: float) -> list[Point]:
        """A wheel on the visible side."""
        z, x, points = self._z(fraction), self.visible_side, []
        for corner in range(9):
            angle = corner * 2 * math.pi / 9
            points.append((x, radius * (1 + math.sin(angle)), z + radius * math.cos(angle)))
        return points


def car(canvas: Canvas, dice: Dice, *, x: float, z: float, away: bool) -> None:
    """A car that drives along the street, seen from behind (away) or from the front; length about 4.3 m."""
    width, length, tall = dice.between(1.65, 1.85), dice.between(3.8, 4.7), dice.between(1.4, 1.75)
    hull = Hull(x - width / 2, x + width / 2, z, z + length, tall)
    side, belt = hull.visible_side, 0.58 * tall
    if side is not None:
        canvas.polygon(CAR, M.CAR, hull.flank(0, 0.24, 1, belt))
        for wheel in (0.2, 0.8):
            canvas.polygon(CAR, M.TYRE, hull.wheel(wheel, 0.33))
    _car_cabin(canvas, hull, belt, away)
    for left, right in ((0.06, 0.2), (0.8, 0.94)):
        canvas.polygon(CAR, M.TYRE, hull.end(left, 0.0, right, 0.35))
    canvas.polygon(CAR, M.CAR, hull.end(0, 0.24, 1, belt))
    canvas.polygon(CAR, M.CAR, hull.end(0, 0.24, 1, 0.4), 0.45)  # the bumper
    lights = M.TAILLIGHT if away else M.HEADLIGHT
    for left, right in ((0.03, 0.2), (0.8, 0.97)):
        canvas.polygon(CAR, lights, hull.end(left, belt - 0.3, right, belt - 0.12))
    if not away:
        canvas.polygon(CAR, M.TYRE, hull.end(0.26, belt - 0.34, 0.74, belt - 0.14))  # the grille
    canvas.polygon(CAR, M.PLATE, hull.end(0.36, 0.4, 0.64, 0.51))


def _car_cabin(canvas: Canvas, hull: Hull, belt: float, away: bool) -> None:
    """The upper half: deck, flank, end and roof, narrower above; then the panes."""
    tall, length = hull.height, hull.z1 - hull.z0
    near_low, near_high = (0.08, 0.5) if away else (1.15, 1.8)  # behind the bonnet, when it comes towards us
    far_high, far_low = length - (1.8 if away else 0.6), length - (1.15 if away else 0.1)
    a, b, c, d = (hull.z0 + part for part in (near_low, near_high, far_high, far_low))
    left, right, inset = hull.x0, hull.x1, 0.16
    deck = [(left, belt, hull.z0), (right, belt, hull.z0), (right, belt, hull.z1), (left, belt, hull.z1)]
    canvas.polygon(CAR, M.CAR, deck)
    side = hull.visible_side
    if side is not None:
        roof_x = left + inset if side == left else right - inset
        canvas.polygon(CAR, M.CAR, [(side, belt, a), (side, belt, d), (roof_x, tall, c), (roof_x, tall, b)])
        up, x_up, middle = belt + 0.85 * (tall - belt), side + 0.85 * (roof_x - side), (a + d) / 2
        rear = [(side, belt, a + 0.3), (side, belt, middle), (x_up, up, middle), (x_up, up, b + 0.1)]
        front = [(side, belt, middle + 0.12), (side, belt, d - 0.3), (x_up, up, c - 0.1), (x_up, up, middle + 0.12)]
        for pane in (rear, front):
            canvas.polygon(CAR, M.GLASS, pane)
    for material, low, high, y, shade in ((M.CAR, 0.05, inset, tall, 0.9), (M.GLASS, 0.16, 0.24, tall - 0.09, 1.0)):
        end = [(left + low, belt, a), (right - low, belt, a), (right - high, y, b), (left + high, y, b)]
        canvas.polygon(CAR, material, end, shade)
    x0, x1 = left + inset, right - inset
    canvas.polygon(CAR, M.CAR, [(x0, tall, b), (x1, tall, b), (x1, tall, c), (x0, tall, c)])


def truck(canvas: Canvas, dice: Dice, *, x: float, z: float, away: bool) -> None:
    """A lorry with a cargo box; from the front its cab is seen. Length about 8 m."""
    tall, length = dice.between(2.9, 3.7), dice.between(6.5, 9.0)
    hull = Hull(x - 1.2, x + 1.2, z, z + length, tall)
    if hull.visible_side is not None:
        cab = (0.76, 1.0) if away else (0.0, 0.24)
        cargo = (0.0, 0.74) if away else (0.26, 1.0)
        canvas.polygon(TRUCK, M.TYRE, hull.flank(0, 0.45, 1, 0.95))
        canvas.polygon(TRUCK, M.CAR, hull.flank(cab[0], 0.5, cab[1], 0.8 * tall))
        canvas.polygon(TRUCK, M.GLASS, hull.flank(cab[0] + 0.05, 1.6, cab[1] - 0.05, 0.72 * tall))
        canvas.polygon(TRUCK, M.TRUCK, hull.flank(cargo[0], 0.9, cargo[1], tall))
        for wheel in (0.12, 0.26, 0.86):
            canvas.polygon(TRUCK, M.TYRE, hull.wheel(wheel if away else 1 - wheel, 0.46))
    if tall < canvas.camera.height:
        canvas.polygon(TRUCK, M.TRUCK, hull.top(), 1.05)
    for left, right in ((0.05, 0.27), (0.73, 0.95)):
        canvas.polygon(TRUCK, M.TYRE, hull.end(left, 0, right, 0.8))
    if away:
        canvas.polygon(TRUCK, M.TRUCK, hull.end(0, 0.85, 1, tall))
        canvas.polygon(TRUCK, M.TYRE, hull.end(0.49, 0.95, 0.51, tall - 0.1))  # the gap between its doors
        canvas.polygon(TRUCK, M.TYRE, hull.end(0.04, 0.6, 0.96, 0.85))
        for left, right in ((0.04, 0.16), (0.84, 0.96)):
            canvas.polygon(TRUCK, M.TAILLIGHT, hull.end(left, 0.62, right, 0.82))
        return
    canvas.polygon(TRUCK, M.TRUCK, hull.end(0.02, 1.0, 0.98, tall), 0.9)
    canvas.polygon(TRUCK, M.CAR, hull.end(0.03, 0.4, 0.97, 0.82 * tall))
    canvas.polygon(TRUCK, M.GLASS, hull.end(0.08, 1.55, 0.92, 0.76 * tall))
    canvas.polygon(TRUCK, M.TYRE, hull.end(0.2, 0.75, 0.8, 1.2))
    for left, right in ((0.06, 0.18), (0.82, 0.94)):
        canvas.polygon(TRUCK, M.HEADLIGHT, hull.end(left, 0.6, right, 0.8))


def bus(canvas: Canvas, dice: Dice, *, x: float, z: float, away: bool) -> None:
    """A city bus: one band of windows, a board with its number. Length about 11 m."""
    hull = Hull(x - 1.27, x + 1.27, z, z + dice.between(9.5, 12.0), dice.between(2.9, 3.3))
    tall = hull.height
    if hull.visible_side is not None:
        canvas.polygon(BUS, M.BUS, hull.flank(0, 0.32, 1, tall))
        for pane in range(6):
            canvas.polygon(BUS, M.GLASS, hull.flank(0.03 + 0.16 * pane, 1.35, 0.17 + 0.16 * pane, 2.35))
        canvas.polygon(BUS, M.GLASS, hull.flank(0.45, 0.45, 0.55, 2.35))  # the door
        for wheel in (0.2, 0.78):
            canvas.polygon(BUS, M.TYRE, hull.wheel(wheel, 0.46))
    if tall < canvas.camera.height:
        canvas.polygon(BUS, M.BUS, hull.top(), 1.05)
    for left, right in ((0.05, 0.2), (0.8, 0.95)):
        canvas.polygon(BUS, M.TYRE, hull.end(left, 0, right, 0.5))
    canvas.polygon(BUS, M.BUS, hull.end(0, 0.32, 1, tall))
    low, high = (1.6, 2.5) if away else (1.1, 2.5)
    canvas.polygon(BUS, M.GLASS, hull.end(0.07, low, 0.93, high))
    canvas.polygon(BUS, M.HOUSING, hull.end(0.2, 2.58, 0.8, 2.82))
    canvas.polygon(BUS, M.LAMP_AMBER, hull.end(0.3, 2.64, 0.6, 2.76))
    lights = M.TAILLIGHT if away else M.HEADLIGHT
    for left, right in ((0.05, 0.17), (0.83, 0.95)):
        canvas.polygon(BUS, lights, hull.end(left, 0.62, right, 0.86))
    canvas.polygon(BUS, M.BUS, hull.end(0, 0.32, 1, 0.5), 0.5)


def tram(canvas: Canvas, dice: Dice, *, x: float, z: float, away: bool) -> None:
    """A tram on its rails: long, narrow, two-coloured, with a pantograph."""
    hull = Hull(x - 1.2, x + 1.2, z, z + dice.between(18.0, 30.0), 3.4)
    if hull.visible_side is not None:
        canvas.polygon(TRAIN, M.TRAM, hull.flank(0, 0.2, 1, 3.4))
        canvas.polygon(TRAIN, M.HOUSING, hull.flank(0, 0.2, 1, 0.5))
        for pane in range(12):
            canvas.polygon(TRAIN, M.GLASS, hull.flank(0.01 + 0.083 * pane, 1.4, 0.075 + 0.083 * pane, 2.5))
        for door in (0.175, 0.51, 0.84):
            canvas.polygon(TRAIN, M.GLASS, hull.flank(door, 0.5, door + 0.05, 2.5))
    if hull.height < canvas.camera.height:
        canvas.polygon(TRAIN, M.ROOF, hull.top())
    mast = canvas.upright(x, z + 3.0)
    mast.line(TRAIN, M.HOUSING, ((-0.7, 4.5), (0.7, 4.5)), 0.08)
    mast.line(TRAIN, M.HOUSING, ((-0.5, 4.5), (0.1, 3.9), (-0.3, 3.4)), 0.08)
    left, right = hull.x0, hull.x1
    front = [
        (left, 0.3, z),
        (right, 0.3, z),
        (right, 2.6, z),
        (right - 0.3, 3.4, z),
        (left + 0.3, 3.4, z),
        (left, 2.6, z),
    ]
    canvas.polygon(TRAIN, M.TRAM, front)
    canvas.polygon(TRAIN, M.TRAM, hull.end(0, 0.95, 1, 1.15), 1.4)  # a bright stripe
    canvas.polygon(TRAIN, M.GLASS, hull.end(0.1, 1.35, 0.9, 2.6))
    canvas.polygon(TRAIN, M.HOUSING, hull.end(0.25, 2.8, 0.75, 3.1))
    canvas.polygon(TRAIN, M.LAMP_AMBER, hull.end(0.35, 2.87, 0.65, 3.03))
    canvas.polygon(TRAIN, M.HOUSING, hull.end(0.05, 0.15, 0.95, 0.4))
    lights = M.TAILLIGHT if away else M.HEADLIGHT
    for a, b in ((0.1, 0.24), (0.76, 0.9)):
        canvas.polygon(TRAIN, lights, hull.end(a, 0.6, b, 0.85))


def car_in_profile(canvas: Canvas, dice: Dice, *, x: float, z: float) -> None:
    """A car that crosses the street."""
    card, s = canvas.upright(x, z, dice.chance(0.5)), dice.between(0.95, 1.08)
    body = ((-2.1, 0.28), (2.1, 0.28), (2.15, 0.7), (1.95, 0.82), (1.05, 0.92), (0.45, 1.44), (-1.0, 1.46),
            (-1.75, 0.98), (-2.1, 0.92))  # fmt: skip
    card.polygon(CAR, M.CAR, [(a * s, b * s) for a, b in body])
    front = ((-0.1, 0.92), (0.85, 0.92), (0.37, 1.34), (-0.1, 1.35))
    back = ((-1.45, 0.95), (-0.2, 0.92), (-0.2, 1.35), (-0.95, 1.36))
    for pane in (front, back):
        card.polygon(CAR, M.GLASS, [(a * s, b * s) for a, b in pane])
    card.box(CAR, M.CAR, -2.0 * s, 0.28, 2.0 * s, 0.42, 0.5)
    card.box(CAR, M.CAR, -0.17 * s, 0.42, -0.12 * s, 0.92 * s, 0.6)  # the gap between the doors
    for wheel in (-1.28, 1.3):
        card.disc(CAR, M.TYRE, wheel * s, 0.33, 0.34)
        card.disc(CAR, M.METAL, wheel * s, 0.33, 0.19)
    card.box(CAR, M.HEADLIGHT, 1.95 * s, 0.66, 2.12 * s, 0.78)
    card.box(CAR, M.TAILLIGHT, -2.1 * s, 0.74, -1.95 * s, 0.9)


def truck_in_profile(canvas: Canvas, dice: Dice, *, x: float, z: float) -> None:
    """A lorry that crosses the street."""
    card, tall = canvas.upright(x, z, dice.chance(0.5)), dice.between(2.9, 3.7)
    card.box(TRUCK, M.TYRE, -3.9, 0.5, 3.6, 0.9)
    card.box(TRUCK, M.TRUCK, -4.0, 0.85, 1.9, tall)
    card.box(TRUCK, M.TRUCK, -4.0, tall - 0.14, 1.9, tall, 0.8)
    card.polygon(TRUCK, M.CAR, ((2.05, 0.45), (4.0, 0.45), (4.0, 1.5), (3.7, 2.6), (2.05, 2.6)))
    card.polygon(TRUCK, M.GLASS, ((2.6, 1.5), (3.9, 1.5), (3.62, 2.35), (2.6, 2.35)))
    for wheel in (-3.1, -2.1, 3.0):
        card.disc(TRUCK, M.TYRE, wheel, 0.48, 0.48)
        card.disc(TRUCK, M.METAL, wheel, 0.48, 0.22)
    card.box(TRUCK, M.HEADLIGHT, 3.85, 0.7, 4.0, 0.9)


def bus_in_profile(canvas: Canvas, dice: Dice, *, x: float, z: float) -> None:
    """A bus that crosses the street."""
    card = canvas.upright(x, z, dice.chance(0.5))
    card.box(BUS, M.BUS, -5.5, 0.32, 5.5, 3.1)
    card.box(BUS, M.BUS, -5.5, 0.32, 5.5, 0.6, 0.5)
    for pane in range(7):
        card.box(BUS, M.GLASS, -5.3 + 1.45 * pane, 1.4, -4.0 + 1.45 * pane, 2.45)
    card.box(BUS, M.GLASS, 4.9, 1.1, 5.5, 2.5)
    for door in (-0.6, 3.9):
        card.box(BUS, M.GLASS, door, 0.45, door + 0.9, 2.45, 0.8)
    card.box(BUS, M.HOUSING, 2.0, 2.6, 4.6, 2.88)
    card.box(BUS, M.LAMP_AMBER, 2.4, 2.67, 3.6, 2.81)
    for wheel in (-3.2, 3.2):
        card.disc(BUS, M.TYRE, wheel, 0.47, 0.47)
        card.disc(BUS, M.METAL, wheel, 0.47, 0.22)


def tram_in_profile(canvas: Canvas, dice: Dice, *, x: float, z: float) -> None:
    """A tram that crosses the street."""
    card = canvas.upright(x, z, dice.chance(0.5))
    card.polygon(TRAIN, M.TRAM, ((-13, 0.3), (12.6, 0.3), (13, 1.2), (12.3, 3.3), (-13, 3.3)))
    card.box(TRAIN, M.HOUSING, -13, 0.15, 12.6, 0.5)
    card.box(TRAIN, M.TRAM, -13, 0.95, 12.9, 1.2, 1.4)
    for pane in range(13):
        card.box(TRAIN, M.GLASS, -12.7 + 1.9 * pane, 1.4, -11.2 + 1.9 * pane, 2.5)
    for joint in (-4.4, 4.3):
        card.box(TRAIN, M.HOUSING, joint - 0.25, 0.3, joint + 0.25, 3.2)
    for door in (-8.9, 0.6, 8.2):
        card.box(TRAIN, M.GLASS, door, 0.5, door + 1.3, 2.5, 0.8)
    card.line(TRAIN, M.HOUSING, ((-0.9, 4.4), (0.7, 4.4)), 0.08)
    card.line(TRAIN, M.HOUSING, ((0, 4.4), (0.6, 3.85), (0, 3.3)), 0.08)


def bonnet(canvas: Canvas, dice: Dice, *, height: float) -> None:
    """The bonnet of the car that carries the camera: the lowest part of the picture, ignored in the labels."""
    rim = [(0.5 + 0.5 * t, 1.0 - height * (1 - abs(t) ** 3.2)) for t in (i / 8 for i in range(-8, 9))]
    canvas.overlay(255, M.BONNET, [(0.0, 1.05), *rim, (1.0, 1.05)], NEAR)
