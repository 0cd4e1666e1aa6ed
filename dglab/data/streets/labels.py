"""The class numbers by name, in the order of :data:`dglab.classes.CLASS_NAMES`."""

from dglab.classes import NUM_CLASSES

(
    ROAD, SIDEWALK, BUILDING, WALL, FENCE, POLE, LIGHT, SIGN, VEGETATION, TERRAIN,
    SKY, PERSON, RIDER, CAR, TRUCK, BUS, TRAIN, MOTORCYCLE, BICYCLE,
) = range(NUM_CLASSES)  # fmt: skip
