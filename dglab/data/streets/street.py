"""How things that stand still are drawn: houses, walls and trees, street furniture.

Every function draws one thing on a canvas at its place in the world (metres: x to the right, z ahead). ``side`` is
-1 for the left and +1 for the right side of the street. All functions are called alike, so some ignore their dice.
"""

import math

from dglab.data.streets.canvas import NEAR, Canvas, Material, Point, Upright
from dglab.data.streets.dice import Dice
from dglab.data.streets.labels import BUILDING, FENCE, LIGHT, POLE, SIGN, VEGETATION, WALL

M = Material


def _clip_near(x0: float, z0: float, x1: float, z1: float) -> tuple[float, float]:
    """The start of the segment (x0, z0)-(x1, z1), moved to the near plane where it lies behind it."""
    if z0 >= NEAR:
        return x0, z0
    part = (NEAR - z0) / (z1 - z0)
    return x0 + part * (x1 - x0), NEAR


# ---------------------------------------------------------------------------------------------- along the street


def building(
    canvas: Canvas, dice: Dice, *, side: int, x0: float, z0: float, x1: float, z1: float,
    height: float, storey: float, pitched: bool,
) -> None:  # fmt: skip
    """A house whose street face runs from (x0, z0) to (x1, z1); windows are part of its pattern."""
    reach = dice.between(9.0, 16.0)  # how far the house extends away from the street
    detail = (dice.between(1.7, 3.6), storey, dice.between(0.35, 0.75), height, dice.unit())
    near_x, near_z = _clip_near(x0, z0, x1, z1)
    if pitched:
        rise = dice.between(1.8, 4.0)
        ridge0 = (near_x + side * reach / 2, height + rise, near_z)
        ridge1 = (x1 + side * reach / 2, height + rise, z1)
        seen = height - abs(x0) * 2 * rise / reach < canvas.camera.height  # the camera lies above the roof's plane
        if seen:
            canvas.polygon(BUILDING, M.ROOF, ((near_x, height, near_z), (x1, height, z1), ridge1, ridge0))
    street_face = ((near_x, 0.0, near_z), (x1, 0.0, z1), (x1, height, z1), (near_x, height, near_z))
    canvas.polygon(BUILDING, M.FACADE, street_face, 1.0, detail)
    if z0 < NEAR:
        return
    outer = x0 + side * reach
    end_face: list[Point] = [(x0, 0.0, z0), (outer, 0.0, z0), (outer, height, z0), (x0, height, z0)]
    canvas.polygon(BUILDING, M.FACADE, end_face, 1.0, detail)
    if pitched:
        canvas.polygon(BUILDING, M.FACADE, ((x0, height, z0), (outer, height, z0), ridge0), 0.97, detail)
    elif dice.chance(0.6):  # a chimney or a lift house on the flat roof
        card = canvas.upright(x0 + side * dice.between(1.5, 5.0), z0 + 0.2)
        card.box(BUILDING, M.ROOF, -0.8, height, 0.8, height + dice.between(0.8, 2.0))


def block(
    canvas: Canvas, dice: Dice, *, x0: float, x1: float, z: float, height: float, storey: float, pitched: bool
) -> None:
    """A house seen only from the front: the end of the street, or the skyline."""
    detail = (dice.between(1.7, 3.6), storey, dice.between(0.35, 0.75), height, dice.unit())
    if pitched:
        rise, inset = dice.between(1.5, 3.5), dice.between(0.0, 2.0)
        roof = (
            (x0, height, z),
            (x1, height, z),
            (x1 - inset, height + rise, z),
            (x0 + inset, height + rise, z),
        )
        canvas.polygon(BUILDING, M.ROOF, roof)
    face = ((x0, 0.0, z), (x1, 0.0, z), (x1, height, z), (x0, height, z))
    canvas.polygon(BUILDING, M.FACADE, face, 1.0, detail)


def barrier(
    canvas: Canvas, dice: Dice, *, kind: str, x0: float, z0: float, x1: float, z1: float, height: float
) -> None:
    """A wall, a fence or a hedge from (x0, z0) to (x1, z1)."""
    x0, z0 = _clip_near(x0, z0, x1, z1)
    face = [(x0, 0.0, z0), (x1, 0.0, z1), (x1, height, z1), (x0, height, z0)]
    if kind == "wall":
        canvas.polygon(WALL, M.WALL, face, 1.0, (dice.between(0.4, 1.0), height, dice.unit(), 0.0, 0.0))
        return
    if kind == "fence":
        detail = (dice.choice((0.16, 0.22, 0.35)), height, dice.between(0.4, 0.7), dice.unit(), 0.0)
        canvas.polygon(FENCE, M.FENCE, face, 1.0, detail)
        return
    steps = 10  # a hedge: its upper edge is uneven
    top = []
    for step in range(steps + 1):
        part = step / steps
        rim = height * dice.between(0.82, 1.1)
        top.append((x1 + part * (x0 - x1), rim, z1 + part * (z0 - z1)))
    canvas.polygon(VEGETATION, M.LEAF, [*face[:2], *top])


def tree(canvas: Canvas, dice: Dice, *, x: float, z: float, height: float, kind: str) -> None:
    """A tree: ``broad`` (crown of many lumps), ``conifer`` (tiers) or ``palm`` (fronds on a tall trunk)."""
    card = canvas.upright(x, z, dice.chance(0.5))
    if kind == "palm":
        _palm(card, dice, height)
        return
    trunk = 0.03 * height + 0.05
    card.polygon(
        VEGETATION,
        M.BARK,
        ((-trunk, 0), (trunk, 0), (trunk * 0.6, height * 0.6), (-trunk * 0.6, height * 0.6)),
    )
    if kind == "conifer":
        _conifer(card, dice, height)
    else:
        _broad_crown(card, dice, height, 9 if z < 35 else 5)


def grove(canvas: Canvas, dice: Dice, *, x0: float, x1: float, z: float, height: float) -> None:
    """Trees far away: a strip of leaves with an uneven upper edge."""
    card, steps = canvas.upright(x0, z), 12
    rim = [((x1 - x0) * k / steps, height * dice.between(0.6, 1.1)) for k in range(steps, -1, -1)]
    card.polygon(VEGETATION, M.LEAF, ((0.0, 0.0), (x1 - x0, 0.0), *rim), 0.85)


def _broad_crown(card: Upright, dice: Dice, height: float, lump_count: int) -> None:
    middle, rx, ry = height * 0.66, height * dice.between(0.22, 0.32), height * 0.34
    _lump(card, dice, 0.0, middle, rx * 0.9, ry * 0.9, 0.66)  # the dark inside
    lumps = []
    for _ in range(lump_count):
        angle, reach = dice.between(0, 2 * math.pi), dice.between(0.35, 0.72)
        lumps.append((reach * math.sin(angle), reach * math.cos(angle)))
    for right, up in sorted(lumps, key=lambda lump: lump[1]):  # the upper lumps lie in front and in the light
        size = dice.between(0.32, 0.5)
        shade = 0.86 + 0.3 * up - 0.08 * right
        _lump(card, dice, rx * right, middle + ry * up, rx * size, ry * size, round(shade, 2))


_CORNERS = [(math.cos(k * 2 * math.pi / 11), math.sin(k * 2 * math.pi / 11)) for k in range(11)]


def _lump(card: Upright, dice: Dice, x: float, y: float, rx: float, ry: float, shade: float) -> None:
    points = []
    for right, up in _CORNERS:
        reach = 0.78 + 0.37 * dice.unit()
        points.append((x + rx * reach * right, y + ry * reach * up))
    card.polygon(VEGETATION, M.LEAF, points, shade)


def _conifer(card: Upright, dice: Dice, height: float) -> None:
    wide = height * dice.between(0.17, 0.24)
    for tier in range(4):
        low, high = height * (0.14 + 0.19 * tier), height * (0.5 + 0.17 * tier)
        half = wide * (1 - 0.2 * tier)
        points = (
            (-half, low),
            (-half * 0.4, low + 0.1),
            (0, low - 0.1),
            (half * 0.5, low + 0.1),
            (half, low),
        )
        card.polygon(VEGETATION, M.LEAF, (*points, (0.0, min(high, height))), 0.7 + 0.1 * tier)


def _palm(card: Upright, dice: Dice, height: float) -> None:
    lean = dice.between(-0.06, 0.06) * height
    card.polygon(VEGETATION, M.BARK, ((-0.18, 0), (0.18, 0), (lean + 0.12, height), (lean - 0.12, height)))
    for frond in range(9):
        angle = math.pi * (frond / 8 * 1.3 - 0.15) + dice.between(-0.1, 0.1)
        length = height * dice.between(0.2, 0.27)
        dx, dy = length * math.cos(angle), length * math.sin(angle) * 0.7
        tip = (lean + dx, height + dy - 0.35 * abs(dx))
        middle = (lean + dx * 0.55, height + dy * 0.8 + 0.25)
        under = (lean + dx * 0.5, height + dy * 0.8 - 0.3)
        card.polygon(VEGETATION, M.LEAF, ((lean, height), middle, tip, under), 0.8 + 0.3 * dice.unit())


# ---------------------------------------------------------------------------------------------- street furniture


def lamp_post(canvas: Canvas, dice: Dice, *, side: int, x: float, z: float, height: float) -> None:
    """A lamp post; its arm reaches over the road."""
    card = canvas.upright(x, z, side > 0)  # mirrored on the right: the arm points to the road
    card.box(POLE, M.METAL, -0.09, 0, 0.09, height)
    reach = dice.between(0.6, 2.2)
    card.polygon(POLE, M.METAL, ((0, height), (reach, height + 0.25), (reach, height + 0.38), (-0.09, height + 0.12)))
    card.box(POLE, M.METAL, reach - 0.35, height + 0.16, reach + 0.35, height + 0.36, 0.8)


def pole(canvas: Canvas, dice: Dice, *, x: float, z: float, height: float) -> None:
    """A plain pole: a bollard, a post, or a tall mast with crossbars."""
    card = canvas.upright(x, z)
    half = 0.07 + 0.008 * height
    card.box(POLE, M.METAL, -half, 0, half, height)
    if height > 5:
        for level in (0.93, 0.85):
            card.box(POLE, M.METAL, -0.9, height * level, 0.9, height * level + 0.14, 0.85)


def traffic_light(canvas: Canvas, dice: Dice, *, side: int, x: float, z: float, arm: float) -> None:
    """A traffic light with three lamps, on a post or hung from an arm of this length over the road."""
    card = canvas.upright(x, z, side > 0)
    lit = dice.choice((M.LAMP_RED, M.LAMP_AMBER, M.LAMP_GREEN, M.LAMP_RED, M.LAMP_GREEN))
    heads = [(0.0, 2.35)]
    if arm > 0:
        card.box(POLE, M.METAL, -0.1, 0, 0.1, 5.9)
        card.box(POLE, M.METAL, 0, 5.65, arm, 5.82)
        heads += [(arm, 4.75)]
    else:
        card.box(POLE, M.METAL, -0.08, 0, 0.08, 3.5)
    for x_head, y_head in heads:
        card.box(LIGHT, M.HOUSING, x_head - 0.23, y_head, x_head + 0.23, y_head + 1.2)
        lamps = ((M.LAMP_GREEN, 0.23), (M.LAMP_AMBER, 0.6), (M.LAMP_RED, 0.97))
        for lamp, rise in lamps:
            card.disc(LIGHT, lamp, x_head, y_head + rise, 0.155, 1.25 if lamp == lit else 0.3)


def traffic_sign(canvas: Canvas, dice: Dice, *, x: float, z: float) -> None:
    """A traffic sign on a post: round, triangular, eight-cornered, or a board."""
    card = canvas.upright(x, z)
    y, r = dice.between(2.2, 2.9), dice.between(0.38, 0.5)
    card.box(POLE, M.METAL, -0.06, 0, 0.06, y)
    shape = dice.choice(("round", "round", "triangle", "octagon", "square", "board"))
    if shape == "round":
        card.disc(SIGN, M.SIGN_RIM, 0, y, r)
        card.disc(SIGN, M.SIGN, 0, y, r * 0.7)
    elif shape == "octagon":
        turn = [math.pi * (0.25 * corner + 0.125) for corner in range(8)]
        card.polygon(SIGN, M.SIGN_RIM, [(r * math.cos(a), y + r * math.sin(a)) for a in turn])
        card.box(SIGN, M.SIGN, -r * 0.6, y - 0.1, r * 0.6, y + 0.1)
    elif shape == "triangle":
        for size, material in ((1.15, M.SIGN_RIM), (0.68, M.SIGN)):
            s = r * size
            card.polygon(SIGN, material, ((-s, y - 0.62 * s), (s, y - 0.62 * s), (0, y + 1.1 * s)))
    else:
        half = r * (0.85 if shape == "square" else 1.7)
        card.box(SIGN, M.SIGN, -half, y - r, half, y + r)
        card.polygon(SIGN, M.SIGN_RIM, ((-0.1, y - r * 0.7), (0.1, y - r * 0.7), (0.0, y + r * 0.7)))
