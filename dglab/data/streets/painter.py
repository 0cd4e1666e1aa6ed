"""The painting of a scene in a style.

Nothing here moves an edge: the painter reads the geometry, it never changes it. Colours are kept as 3 x P float32
(P pixels, 0-255): channel by channel is the fastest way for numpy.
"""

import math

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from dglab.data.streets.canvas import NEAR, SKY_DEPTH, Camera, Material
from dglab.data.streets.content import Road
from dglab.data.streets.dice import Dice
from dglab.data.streets.geometry import Geometry
from dglab.data.streets.labels import ROAD, SIDEWALK, TERRAIN
from dglab.data.streets.style import MATERIALS, PAINTS, RGB, Style, draw_mood
from dglab.data.streets.textures import noise, sample

M = Material
_F = np.float32  # keeps constants from turning whole arrays into float64
SHINY = (M.CAR, M.TRUCK, M.BUS, M.TRAM, M.BONNET)
GLOWING = (M.LAMP_RED, M.LAMP_AMBER, M.LAMP_GREEN, M.HEADLIGHT, M.TAILLIGHT, M.SKY)

_FINE = np.array([row[1] for row in MATERIALS.values()], np.float32)
_COARSE = np.array([row[2] for row in MATERIALS.values()], np.float32)
_PER_METRE = np.array([row[3] for row in MATERIALS.values()], np.float32)
_PAINT = np.array([PAINTS.index(row[0]) for row in MATERIALS.values()])


def _column(colour: RGB) -> np.ndarray:
    return np.array(colour, np.float32)[:, None]


def _ramp(value: np.ndarray, pixel: np.ndarray) -> np.ndarray:
    """How much of a pixel lies on the positive side of an edge: 0 to 1 over the width of one pixel."""
    cover = value / pixel
    cover += 0.5
    return np.clip(cover, 0, 1, out=cover)


class Painter:
    """Paints one scene in one style.

    Args:
        geometry: the scene, on a canvas of twice the picture's size.
        style: the style.
        d: dice of the style.
        rng: generator of the sensor noise.
    """

    def __init__(self, geometry: Geometry, style: Style, d: Dice, rng: np.random.Generator) -> None:
        self.geometry, self.style, self.rng = geometry, style, rng
        self.mood = draw_mood(style, d)
        self._paints = {name: np.array(style.palette[name], np.float32) for name in PAINTS}
        self._d = d
        self._thing_seed = int(d.unit() * 2**31)
        self._picked = {name: self._draw_paint(name) for name in PAINTS}  # in a fixed order, whatever is in view

    def paint(self) -> np.ndarray:
        """The picture: H x W x 3 uint8, at half the canvas size."""
        geometry = self.geometry
        height, width = geometry.number.shape
        number = geometry.number.reshape(-1)
        image = np.take(self._surface_colours(), number, axis=1)  # 3 x HW
        material = geometry.surfaces.material.astype(np.uint8)[number]
        self._place(number)
        self._grain(image, material, number)
        self._facades(image, material, number)
        self._walls_and_fences(image, material, number)
        self._shine(image, material)
        self._ground(image)
        self._sky(image, material)
        np.clip(image, 0, 255, out=image)
        channels = image.astype(np.uint8).reshape(3, height, width)
        return self._develop(np.stack([Image.fromarray(channel).reduce(2) for channel in channels]))

    # ------------------------------------------------------------------------------------------------- surfaces

    def _draw_paint(self, name: str) -> np.ndarray:
        colours = self._paints[name]
        colour = colours[int(self._d.unit() * len(colours))]
        brightness = self._d.between(-1.2, 1.2)  # varies more than the hue
        spread = [brightness + self._d.between(-0.4, 0.4) for _ in range(3)]
        return (colour + np.float32(self.style.spread) * np.array(spread, np.float32))[:, None]

    def _pick(self, name: str) -> np.ndarray:
        """This image's colour of a paint that is not drawn thing by thing, with the style's spread."""
        return self._picked[name]

    def _surface_colours(self) -> np.ndarray:
        """The lit colour of every surface, 3 x N; the parts of a thing share their paint."""
        table = self.geometry.surfaces
        things = int(table.thing.max()) + 1
        rng = np.random.default_rng(self._thing_seed)
        pick = rng.random((things, len(PAINTS)), dtype=np.float32)
        shift = rng.standard_normal((things, 4), dtype=np.float32)
        colour = np.empty((len(table.label), 3), np.float32)
        paint = _PAINT[table.material]
        for number in np.unique(paint):
            rows = np.flatnonzero(paint == number)
            colours = self._paints[PAINTS[number]]
            colour[rows] = colours[(pick[table.thing[rows], number] * len(colours)).astype(np.int64)]
        spread = shift[table.thing, :1] + 0.4 * shift[table.thing, 1:]  # brightness varies more than hue
        colour += np.float32(self.style.spread) * spread
        colour *= (table.shade * self._light(table.normal, table.material))[:, None]
        return np.ascontiguousarray(np.clip(colour, 0, 255).T)

    def _light(self, normal: np.ndarray, material: np.ndarray) -> np.ndarray:
        """Brightness factor of surfaces by the angle at which the sun meets them."""
        facing = normal @ np.array(self.mood.sun_direction, np.float32)
        direct = np.clip(facing, 0, 1)
        sky_above = 0.88 + 0.12 * normal[:, 1]  # what looks up sees more sky
        light = self.mood.ambient * sky_above + self.mood.direct * direct
        light[np.isin(material, GLOWING)] = 1.0
        return light.astype(np.float32)

    def _place(self, number: np.ndarray) -> None:
        """Positions on the surfaces: s along them (x or z), t up them (or z on level ones), metres."""
        geometry, camera = self.geometry, self.geometry.canvas.camera
        height, width = geometry.number.shape
        z = geometry.depth
        normal = geometry.surfaces.normal
        x = z * ((np.arange(width, dtype=np.float32) - camera.cx) / camera.focal)
        y = camera.height - z * ((np.arange(height, dtype=np.float32) - camera.cy) / camera.focal)[:, None]
        sideways = (np.abs(normal[:, 0]) > np.abs(normal[:, 2]))[number].reshape(height, width)
        level = (np.abs(normal[:, 1]) > 0.95)[number].reshape(height, width)
        self.s = np.where(sideways, z, x).reshape(-1)
        self.t = np.where(level, z, y).reshape(-1)
        self.y, self.z = y.reshape(-1), z.reshape(-1)
        self.pixel = self.z * np.float32(1 / camera.focal)  # metres that one pixel spans

    def _grain(self, image: np.ndarray, material: np.ndarray, number: np.ndarray) -> None:
        """Multiply the image with the surfaces' grain; far away it averages out."""
        strength = np.float32(self.mood.texture)
        scale = _PER_METRE[material]
        shift = ((self.geometry.surfaces.thing * 61) % 512).astype(np.float32)[number]
        u, v = self.s * scale, self.t * scale
        u += shift
        fade = np.minimum(1.0, 1.6 / (self.pixel * scale + 0.4))
        fine = sample(noise("fine", 0.6, 12.0), u, v)
        fine *= fade
        u *= np.float32(0.15)
        v *= np.float32(0.15)
        coarse = sample(noise("coarse", 1.4, 3.0), u, v)
        self.fine, self.coarse = fine, coarse  # the ground takes its grain from here, too
        grain = fine * _FINE[material]
        grain += coarse * _COARSE[material]
        grain *= strength
        grain += 1.0
        image *= grain

    def _facades(self, image: np.ndarray, material: np.ndarray, number: np.ndarray) -> None:
        """Windows, ledges and ground floors of houses."""
        index = np.flatnonzero(material == M.FACADE)
        if not len(index):
            return
        pitch, storey, fill, top, seed = np.take(self.geometry.surfaces.detail.T, number[index], axis=1)
        s, t, pixel = self.s[index] / pitch, self.t[index], self.pixel[index]
        shop = (seed < 0.45) & (t < storey)
        column, floor = np.floor(s), np.floor(t / storey)
        across = np.abs(s - column - 0.5)
        up = t / storey - floor
        half = np.where(shop, _F(0.42), fill * _F(0.5))
        soft_s, soft_t = pixel / pitch, pixel / storey
        low, high = np.where(shop, _F(0.05), _F(0.28)), np.where(shop, _F(0.72), _F(0.80))
        inside = _ramp(half - across, soft_s)
        inside *= _ramp(np.minimum(up - low, high - up), soft_t)
        inside = np.minimum(inside, np.clip(1.4 - 1.2 * soft_s, 0.3, 1.0))  # far windows melt into a pattern
        inside *= t < top - 0.55
        chance = sample(noise("cells", 0.0), column * 37 + seed * 400, floor * 91 + seed * 300)
        pane = self._pick("window") * (1.0 + 0.22 * chance)
        pane += (chance > 1.2) * np.float32(60.0)  # a curtain or a lamp behind some
        colour = image[:, index]
        frame = _ramp(0.06 - np.abs(across - half) * pitch, pixel) * 0.25
        frame *= (up > low) & (up < high) & (t < top - 0.55)
        ledge = _ramp(0.09 - np.abs(up - 0.03) * storey, pixel) * (0.22 / (1 + 2 * pixel))
        cornice = (t > top - 0.45) * np.float32(0.12)
        plinth = (t < 0.5) * np.float32(0.18)
        colour *= 1 - ledge + frame + cornice - plinth
        awning = np.flatnonzero(shop & (up > 0.74) & (up < 0.93))
        colour[:, awning] = colour[:, awning] * 0.35 + self._pick("sign") * np.float32(0.5)
        colour += (pane - colour) * inside
        image[:, index] = colour

    def _walls_and_fences(self, image: np.ndarray, material: np.ndarray, number: np.ndarray) -> None:
        """Blocks and joints of walls; bars and rails of fences."""
        detail = self.geometry.surfaces.detail
        index = np.flatnonzero(material == M.WALL)
        if len(index):
            block, top = detail[:, 0][number[index]], detail[:, 1][number[index]]
            pixel, t = self.pixel[index], self.t[index]
            course = np.floor(t / (block * 0.5))
            s = self.s[index] / block + 0.5 * course
            joint = np.minimum(np.abs(s - np.floor(s + 0.5)) * block, np.abs(t - course * block * 0.5))
            dark = _ramp(0.03 - joint, pixel) * (0.3 / (1 + 6 * pixel))
            coping = (t > top - 0.16) * np.float32(0.16)
            image[:, index] *= 1 - dark + coping
        index = np.flatnonzero(material == M.FENCE)
        if len(index):
            pitch, top, bar = (detail[:, k][number[index]] for k in range(3))
            s, t, pixel = self.s[index] / pitch, self.t[index], self.pixel[index]
            across = np.abs(s - np.floor(s) - 0.5)
            solid = _ramp((bar * 0.5 - across) * pitch, pixel)
            blend = np.clip(pixel * 1.2 / pitch, 0, 1)
            solid += (bar - solid) * blend
            rails = (np.abs(t - top * 0.85) < 0.06) | (np.abs(t - top * 0.25) < 0.06)
            solid = np.maximum(solid, rails)
            behind = 0.35 * image[:, index] + 0.3 * self._pick("leaf")
            image[:, index] = behind + (image[:, index] - behind) * solid

    def _shine(self, image: np.ndarray, material: np.ndarray) -> None:
        """Paintwork is brighter above and darker below; panes mirror the sky in their upper part."""
        shiny = np.zeros(len(MATERIALS), bool)
        shiny[list(SHINY)] = True
        index = np.flatnonzero(shiny[material])
        image[:, index] *= np.clip(0.78 + 0.2 * self.y[index], 0.7, 1.12)
        index = np.flatnonzero(material == M.GLASS)
        mirror = np.clip(0.35 * self.y[index] - 0.3, 0.0, 0.32)
        image[:, index] += (_column(self.mood.sky[0]) - image[:, index]) * mirror

    # --------------------------------------------------------------------------------------------------- ground

    def _ground(self, image: np.ndarray) -> None:
        """Asphalt with wheel tracks and markings, sidewalks with slabs and kerb, grass or soil; shadows on all."""
        ground, road, mood = self.geometry.ground, self.geometry.layout.road, self.mood
        if not len(ground.index):
            return
        z, across, beyond = ground.z, ground.across, ground.beyond
        pixel = self.pixel[ground.index]
        fine, coarse = self.fine[ground.index], self.coarse[ground.index]
        is_road, is_walk = ground.label == ROAD, ground.label == SIDEWALK
        tables = np.zeros((3, 20), np.float32), np.zeros(20, np.float32), np.zeros(20, np.float32)
        for label, paint, grain, patches in (
            (ROAD, "asphalt", 0.075, 0.055), (SIDEWALK, "paving", 0.07, 0.05), (TERRAIN, "terrain", 0.19, 0.13),
        ):  # fmt: skip
            tables[0][:, label], tables[1][label], tables[2][label] = self._pick(paint)[:, 0], grain, patches
        colour = np.take(tables[0], ground.label, axis=1)
        grain = fine * tables[1][ground.label] + coarse * tables[2][ground.label]
        grain *= np.float32(mood.texture)
        grain += 1.0
        track = np.abs(np.abs((across / road.lane_width + 0.5 * (road.lanes % 2)) % 1.0 - 0.5) - 0.25)
        grain -= is_road * np.clip(0.12 - track, 0, 1) * np.float32(0.6 * min(mood.texture, 1.0))
        grain -= (is_road & (beyond > -0.35)) * np.float32(0.1)  # the gutter
        walk = np.flatnonzero(is_walk)
        along, aside = z[walk] / 1.2, across[walk] / 1.2
        slab = np.minimum(np.abs(along - np.round(along)), np.abs(aside - np.round(aside))) * 1.2
        grain[walk] -= _ramp(0.03 - slab, pixel[walk]) * (0.16 / (1 + 8 * pixel[walk]))
        colour *= grain
        kerb = np.flatnonzero(is_walk & (beyond < 0.22))
        colour[:, kerb] = colour[:, kerb] * 0.3 + self._pick("kerb") * 0.7
        self._markings(colour, coarse, pixel)
        up = self.mood.sun_direction[1]
        light = mood.ambient + mood.direct * up
        shadow = self._shadows().reshape(-1)[ground.index].astype(np.float32) * np.float32(1 / 255)
        colour *= np.float32(light) * (1 - shadow)
        image[:, ground.index] = colour

    def _markings(self, colour: np.ndarray, coarse: np.ndarray, pixel: np.ndarray) -> None:
        """Lane lines, the paint at the junction, and the rails, blended into the ground's colour."""
        ground, road = self.geometry.ground, self.geometry.layout.road
        index = np.flatnonzero((ground.label == ROAD) & (ground.beyond < 0.2))
        z, across, pixel = ground.z[index], ground.across[index], pixel[index]
        cover = np.zeros(len(index), np.float32)
        if road.marking != "none":
            _paint_lanes(cover, road, z, across, pixel)
        if road.junction is not None:
            _paint_junction(cover, road, z, across, pixel)
        painted = np.flatnonzero(cover)
        place = index[painted]
        worn = np.clip(1.0 - self.mood.wear * (0.55 + 0.5 * coarse[place]), 0.05, 1.0)
        colour[:, place] += (self._pick("marking") - colour[:, place]) * (cover[painted] * worn)
        if road.rails is not None:
            gauge = np.abs(np.abs(across - road.rails) - 0.72)
            rail = _ramp(0.06 - gauge, pixel) * np.minimum(1, 0.2 / pixel)
            colour[:, index] *= 1 - 0.5 * rail

    def _shadows(self) -> np.ndarray:
        """How dark the ground lies in shadow, canvas-sized uint8: contact shadows, and the sun's when it shines."""
        canvas, mood = self.geometry.canvas, self.mood
        picture = Image.new("L", (canvas.width, canvas.height), 0)
        draw = ImageDraw.Draw(picture)
        right, up, ahead = mood.sun_direction
        stretch = min(2.5, 1.0 / math.tan(mood.elevation))
        flat = math.hypot(right, ahead) or 1.0
        step = (-right / flat * stretch, -ahead / flat * stretch)  # metres of shadow per metre of height
        depth = int(255 * mood.direct * up / (mood.ambient + mood.direct * up))
        boxes = [thing.footprint for thing in self.geometry.layout.things if thing.footprint is not None]
        if mood.sun > 0.15:
            for box in boxes:
                _draw_cast_shadow(draw, canvas.camera, box, step, depth)
        for x0, x1, z0, z1, height in boxes:
            if height < 3.5 and z1 - z0 > 0.15 and z0 > NEAR:  # under vehicles and people
                corners = ((x0 - 0.1, z0 - 0.15), (x1 + 0.1, z0 - 0.15), (x1 + 0.1, z1), (x0 - 0.1, z1))
                draw.polygon([canvas.camera.project(x, 0.0, max(z, NEAR)) for x, z in corners], fill=max(depth, 130))
        return np.asarray(picture)

    # ------------------------------------------------------------------------------------------------------ sky

    def _sky(self, image: np.ndarray, material: np.ndarray) -> None:
        """A gradient from horizon to zenith, and clouds that lie flat overhead."""
        index = np.flatnonzero(material == M.SKY)
        if not len(index):
            return
        camera, width = self.geometry.canvas.camera, self.geometry.canvas.width
        row, column = index // width, index % width
        rise = np.maximum((np.float32(camera.cy) - row.astype(np.float32)) / np.float32(camera.focal), 0.0)
        low, high = (_column(colour) for colour in self.mood.sky)
        mix = np.clip(rise * 1.9, 0, 1) ** np.float32(0.75)
        colour = low + (high - low) * mix
        near = 1.0 / (rise + 0.22)
        side = (column.astype(np.float32) - np.float32(camera.cx)) / np.float32(camera.focal)
        cloud = sample(noise("cloud", 1.75), 512 * self.mood.seed + 90 * side * near + 2048, 60 * near)
        cover = np.clip(0.45 * cloud + 1.17 * (self.mood.clouds * 2 - 1) + 0.25, 0, 1)
        cover *= np.clip(rise * 9, 0.25, 1) * np.float32(0.85)
        white = np.clip(low * 0.45 + 150 + 10 * cloud, 0, 252)
        image[:, index] = colour + (white - colour) * cover

    # ------------------------------------------------------------------------------------------------- the camera

    def _develop(self, picture: np.ndarray) -> np.ndarray:
        """What air, lens and sensor add: haze, colour, tone, blur, vignette and noise."""
        mood, style = self.mood, self.style
        image = picture.astype(np.float32)  # 3 x H x W
        height, width = image.shape[1:]
        depth = self.geometry.depth[::2, ::2]
        clear = np.exp(np.minimum(depth, 250.0) * np.float32(-mood.haze))
        clear[depth == SKY_DEPTH] = 1 - 0.6 * (1 - math.exp(-120 * mood.haze))
        haze = np.array(style.haze_tint, np.float32)[:, None, None]
        image -= haze
        image *= clear
        image += haze
        warm = max(0.0, 1 - mood.elevation / math.radians(35)) * mood.sun
        tint = mood.cast * np.array((1 + 0.12 * warm, 1.0, 1 - 0.16 * warm), np.float32) * np.float32(mood.exposure)
        image *= tint[:, None, None]
        grey = 0.3 * image[0] + 0.59 * image[1] + 0.11 * image[2]
        image -= grey
        image *= np.float32(mood.saturation)
        image += grey
        image -= 118.0
        image *= np.float32(mood.contrast)
        image += 118.0
        if mood.vignette > 0:
            x = np.linspace(-1, 1, width, dtype=np.float32)
            y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
            image *= 1 - np.float32(0.5 * mood.vignette) * (x * x + y * y)
        np.clip(image, 0, 255, out=image)
        tone = 255 * (np.arange(256) / 255) ** mood.gamma
        finished = tone.astype(np.uint8)[image.astype(np.uint8)].transpose(1, 2, 0)
        finished = self._focus(Image.fromarray(np.ascontiguousarray(finished)), width / 192)
        if mood.grain > 0:
            sensor = self.rng.standard_normal(finished.shape, dtype=np.float32)
            sensor *= np.float32(mood.grain)
            sensor += finished
            finished = np.clip(sensor, 0, 255, out=sensor).astype(np.uint8)
        return finished

    def _focus(self, picture: Image.Image, scale: float) -> np.ndarray:
        """Blur or sharpen; radii grow with the picture (scale is 1 at a width of 192)."""
        if self.mood.blur > 0.05:
            picture = picture.filter(ImageFilter.GaussianBlur(self.mood.blur * scale))
        if self.mood.outline > 0.05:
            percent = int(self.mood.outline * 100)
            picture = picture.filter(ImageFilter.UnsharpMask(max(0.6, 0.8 * scale), percent, 1))
        return np.array(picture)


def _draw_cast_shadow(
    draw: ImageDraw.ImageDraw, camera: Camera, box: tuple[float, ...], step: tuple[float, float], depth: int
) -> None:
    """Draw the shadow of a box on the ground: the hexagon around its base and its shifted top."""
    x0, x1, z0, z1, height = box
    dx, dz = step[0] * height, step[1] * height
    if dx < 0:  # count from the corner that lies farthest back
        x0, x1 = x1, x0
    if dz < 0:
        z0, z1 = z1, z0
    if max(z0, z1 + dz, z0 + dz, z1) <= NEAR:
        return
    base = ((x0, z1), (x0, z0), (x1, z0))
    top = ((x1 + dx, z0 + dz), (x1 + dx, z1 + dz), (x0 + dx, z1 + dz))
    draw.polygon([camera.project(x, 0.0, max(z, NEAR)) for x, z in base + top], fill=depth)


def _paint_lanes(cover: np.ndarray, road: Road, z: np.ndarray, across: np.ndarray, pixel: np.ndarray) -> None:
    """Add the lines along the road to the cover (P values, 0 to 1)."""
    lane = across / road.lane_width + road.lanes / 2
    line = np.round(lane)
    off = np.abs(lane - line) * road.lane_width
    near = np.flatnonzero(off < 0.17 + pixel)  # few pixels lie on a line; only these are worth the rest
    z, off, line, pixel = z[near], off[near], line[near], pixel[near]
    even = road.lanes % 2 == 0  # only then there is a line in the middle
    middle, edge = even & (line == road.lanes // 2), (line <= 0) | (line >= road.lanes)
    half = np.where(middle & (road.marking == "double"), _F(0.16), _F(0.08))
    lines = _ramp(half - off, pixel) * np.minimum(1, 2.2 * half / pixel)
    dashed = ~edge & (~middle | (road.marking == "dashed"))
    lines *= ~(dashed & ((z % 7.0) > 3.2))
    if road.marking == "double":
        lines *= 1 - middle * _ramp(0.045 - off, pixel)
    cover[near] = lines


def _paint_junction(cover: np.ndarray, road: Road, z: np.ndarray, across: np.ndarray, pixel: np.ndarray) -> None:
    """End the lines at the junction; add a stop line and a zebra crossing before it."""
    start, end = road.junction
    cover[(z > (start - 4.4 if road.crosswalk else start)) & (z < end)] = 0
    inside = np.abs(across) < road.half_width - 0.3
    if road.crosswalk:
        zebra = np.flatnonzero(inside & (z > start - 4.0) & (z < start - 0.8))
        cover[zebra] = _ramp(0.27 - np.abs((across[zebra] % 1.1) - 0.55), pixel[zebra])
    cover[inside & (z > start - 5.6) & (z < start - 5.1) & (across * road.offset <= 0)] = 1
