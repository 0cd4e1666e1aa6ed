"""How people are drawn: pedestrians, and riders on bicycles and motorcycles; two-wheelers without a rider, too."""

from dglab.data.streets.canvas import Canvas, Material, Upright
from dglab.data.streets.dice import Dice
from dglab.data.streets.labels import BICYCLE, MOTORCYCLE, PERSON, RIDER

M = Material


def person(canvas: Canvas, dice: Dice, *, x: float, z: float) -> None:
    """A pedestrian, standing or in mid-step."""
    card = canvas.upright(x, z, dice.chance(0.5))
    h = dice.between(1.5, 1.9) / 1.75  # the figure below is 1.75 m tall
    step = dice.between(0.02, 0.3)
    for foot, shade in ((-step, 0.8), (step, 1.0)):
        legs = ((-0.17, 0.9), (0.17, 0.9), (foot + 0.1, 0), (foot - 0.1, 0))
        card.polygon(PERSON, M.TROUSERS, [(a * h, b * h) for a, b in legs], shade)
    skirt = 0.68 if dice.chance(0.3) else 0.85  # a coat or a dress
    torso = ((-0.2, skirt), (0.2, skirt), (0.25, 1.42), (0.12, 1.5), (-0.12, 1.5), (-0.25, 1.42))
    card.polygon(PERSON, M.SHIRT, [(a * h, b * h) for a, b in torso])
    swing = step * 0.8
    arm = ((-0.06, 1.4), (0.08, 1.4), (swing + 0.06, 0.85), (swing - 0.05, 0.85))
    card.polygon(PERSON, M.SHIRT, [(a * h, b * h) for a, b in arm], 0.8)
    _head(card, PERSON, M.HAIR, 0.0, 1.62 * h)
    if dice.chance(0.25):
        card.box(PERSON, M.HAIR, -0.36 * h, 0.55 * h, -0.16 * h, 0.85 * h)  # a bag


def _head(card: Upright, label: int, top: int, x: float, y: float) -> None:
    """A head with hair or a helmet on it."""
    card.disc(label, M.SKIN, x, y, 0.13)
    card.polygon(label, top, ((x - 0.14, y), (x + 0.12, y + 0.03), (x + 0.08, y + 0.16), (x - 0.1, y + 0.15)))


def bicycle(canvas: Canvas, dice: Dice, *, x: float, z: float, ridden: bool, profile: bool) -> None:
    """A bicycle, alone or with its rider, seen from the side or from behind."""
    card = canvas.upright(x, z, dice.chance(0.5))
    if not profile:
        card.box(BICYCLE, M.TYRE, -0.05, 0, 0.05, 0.75)
        card.line(BICYCLE, M.CYCLE, ((-0.3, 1.0), (0.3, 1.0)), 0.07)
        card.line(BICYCLE, M.CYCLE, ((0, 0.5), (0, 0.95)), 0.1)
        if ridden:
            _rider_from_behind(card, dice, 0.85)
        return
    for wheel in (-0.53, 0.53):
        card.ring(BICYCLE, M.TYRE, wheel, 0.35, 0.35, 0.07)
        card.disc(BICYCLE, M.CYCLE, wheel, 0.35, 0.07)
    frame = ((-0.53, 0.35), (-0.05, 0.3), (0.38, 0.78), (-0.15, 0.78), (-0.53, 0.35))
    card.line(BICYCLE, M.CYCLE, frame, 0.065)
    card.line(BICYCLE, M.CYCLE, ((-0.05, 0.3), (-0.2, 0.92)), 0.065)
    card.line(BICYCLE, M.CYCLE, ((0.53, 0.35), (0.38, 0.98), (0.52, 1.02)), 0.065)
    card.box(BICYCLE, M.TYRE, -0.32, 0.9, -0.08, 0.97)
    if ridden:
        _rider_in_profile(card, dice, 0.95, 0.45)


def motorcycle(canvas: Canvas, dice: Dice, *, x: float, z: float, ridden: bool, profile: bool) -> None:
    """A motorcycle, parked or with its rider, seen from the side or from behind."""
    card = canvas.upright(x, z, dice.chance(0.5))
    if not profile:
        card.box(MOTORCYCLE, M.TYRE, -0.12, 0, 0.12, 0.65)
        body = ((-0.25, 0.4), (0.25, 0.4), (0.3, 0.85), (0.15, 1.0), (-0.15, 1.0), (-0.3, 0.85))
        card.polygon(MOTORCYCLE, M.CYCLE, body)
        card.box(MOTORCYCLE, M.TAILLIGHT, -0.12, 0.72, 0.12, 0.84)
        card.line(MOTORCYCLE, M.TYRE, ((-0.45, 1.12), (-0.3, 1.0), (0.3, 1.0), (0.45, 1.12)), 0.09)
        if ridden:
            _rider_from_behind(card, dice, 0.85)
        return
    for wheel in (-0.68, 0.68):
        card.disc(MOTORCYCLE, M.TYRE, wheel, 0.32, 0.32)
        card.disc(MOTORCYCLE, M.METAL, wheel, 0.32, 0.17)
    card.box(MOTORCYCLE, M.TYRE, -0.35, 0.25, 0.4, 0.58)  # the engine
    tank = ((-0.9, 0.72), (-0.35, 0.6), (0.45, 0.55), (0.62, 0.85), (0.3, 1.0), (0.0, 0.85), (-0.85, 0.86))
    card.polygon(MOTORCYCLE, M.CYCLE, tank)
    card.line(MOTORCYCLE, M.METAL, ((0.68, 0.32), (0.45, 1.05), (0.25, 1.12)), 0.09)
    card.line(MOTORCYCLE, M.METAL, ((-0.1, 0.25), (-0.8, 0.35)), 0.1)
    card.disc(MOTORCYCLE, M.HEADLIGHT, 0.64, 0.88, 0.1)
    if ridden:
        _rider_in_profile(card, dice, 0.85, 0.4)


def _rider_in_profile(card: Upright, dice: Dice, seat: float, hands: float) -> None:
    hip, knee = (-0.3, seat + 0.05), (0.22, seat - 0.18)
    legs = (hip, (-0.05, seat + 0.12), knee, (0.1, 0.28), (-0.03, 0.28), (0.04, seat - 0.2))
    card.polygon(RIDER, M.TROUSERS, legs)
    torso = (
        (-0.32, seat),
        (-0.02, seat + 0.05),
        (0.24, seat + 0.55),
        (0.08, seat + 0.68),
        (-0.12, seat + 0.5),
    )
    card.polygon(RIDER, M.SHIRT, torso)
    card.line(RIDER, M.SHIRT, ((0.15, seat + 0.52), (hands - 0.08, seat + 0.12)), 0.11)
    top = M.HELMET if dice.chance(0.75) else M.HAIR
    _head(card, RIDER, top, 0.22, seat + 0.8)


def _rider_from_behind(card: Upright, dice: Dice, seat: float) -> None:
    for leg in (-0.2, 0.2):
        card.box(RIDER, M.TROUSERS, leg - 0.09, 0.3, leg + 0.09, seat)
    torso = (
        (-0.22, seat - 0.08),
        (0.22, seat - 0.08),
        (0.27, seat + 0.5),
        (0, seat + 0.66),
        (-0.27, seat + 0.5),
    )
    card.polygon(RIDER, M.SHIRT, torso)
    for arm in (-1, 1):
        card.line(RIDER, M.SHIRT, ((arm * 0.25, seat + 0.5), (arm * 0.38, seat + 0.18)), 0.12)
    top = M.HELMET if dice.chance(0.75) else M.HAIR
    card.disc(RIDER, top, 0, seat + 0.78, 0.15)
